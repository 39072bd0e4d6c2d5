"""Rows as an `Input` yields them, before anything is known about their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Self, SupportsIndex, TypeAlias

from flip_reward.errors import OptionError

if TYPE_CHECKING:
    from pyarrow import Schema


@dataclass(slots=True)
class RawRow:
    """A row as it stands in the input, before anything is known about its columns."""

    position: int
    """Which row it is, from 0. Blank lines are not rows."""
    line: int
    """The line it begins on, from 1, for messages. In formats without lines, `position + 1`."""
    values: Mapping[str, object]
    source: str = ""
    """The file's path in its folder, where several files are read as one input."""


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that cannot be used. The rows after it still are."""

    position: int
    """It has used up its position like any other row."""
    line: int
    reason: str
    """Why, in words that need no context."""
    source: str = ""
    """The input's name, where several inputs are read as one."""


Row: TypeAlias = RawRow | InvalidRow
Skip: TypeAlias = Callable[[int], bool]
"""Whether the row at a position (from 0) is finished and need not be read again."""


def check_count(name: str, count: object) -> int:
    """Return a number that is given in Python, of rows and the like.

    Example:
        >>> check_count("limit", -1)
        Traceback (most recent call last):
        flip_reward.errors.OptionError: limit is -1, and must be a whole number of at least 1
    """
    if not isinstance(count, SupportsIndex) or index(count) < 1:
        raise OptionError(f"{name} is {count!r}, and must be a whole number of at least 1")
    return index(count)


def skip_nothing(position: int) -> bool:  # noqa: ARG001 - the signature of `Skip`
    """Read every row."""
    return False


@dataclass(frozen=True, slots=True)
class Input:
    """Something rows are read from: a file, a data set on the hub, or standard input.

    Attributes:
        name: What identifies it among others, without folders: a file name, a data set's name, or "stdin".
        size_hint: How many rows it has at most, where that is known without parsing them.
        remark: How it is read, where that had to be found out, such as "separated by semicolons".
        schema: The types of its columns, where the file has them (Parquet, Arrow, data sets on the hub).
        parts: The inputs that it joins, where it is several files.
    """

    name: str
    read: Callable[[Skip], Iterator[Row]]
    digest: Callable[[], str | None] = lambda: None
    size_hint: int | None = None
    remark: str = ""
    schema: Schema | None = None
    parts: Sequence[Input] = ()

    @classmethod
    def in_memory(
        cls, name: str, read: Callable[[], Iterable[Mapping[str, object]]], *, size_hint: int | None = None
    ) -> Self:
        """Return an input of rows that are in memory; `read` is called whenever they are read."""

        def number(skip: Skip) -> Iterator[Row]:
            for position, values in enumerate(read()):
                if not skip(position):
                    yield RawRow(position, position + 1, values)

        return cls(name, number, size_hint=size_hint)

    def rows(self, skip: Skip = skip_nothing) -> Iterator[Row]:
        """Yield the rows one by one, in order, holding only a few in memory.

        A bad row comes out as an `InvalidRow` and never ends the iteration. Data that ends too early or is damaged (a
        gzip file cut off in the middle) comes out as one last `InvalidRow`, after every row before the damage. In
        JSON lines, rows to skip are not even parsed.
        """
        return self.read(skip)

    def fingerprint(self) -> str | None:
        """Return what changes whenever the rows do: a SHA-256 of a file's bytes, a revision of a data set.

        None where nothing such exists (standard input).
        """
        return self.digest()
