"""`Input`: something rows are read from, and what it yields for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in the input, before anything is known about its columns.

    Attributes:
        position: Which row it is, from 0. Blank lines are no rows.
        line: The line it begins on, from 1, for messages. In formats without lines, `position + 1`.
        values: The columns by name.
    """

    position: int
    line: int
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that cannot be read. The rows after it still are.

    Attributes:
        position: Which row it is, from 0. It has used up its position like any other row.
        line: The line it begins on, from 1.
        reason: Why, in words that need no context.
    """

    position: int
    line: int
    reason: str


Row: TypeAlias = RawRow | RejectedRow
Skip: TypeAlias = Callable[[int], bool]
"""Whether the row at a position (from 0) is finished and need not be read again."""


def skip_nothing(position: int) -> bool:  # noqa: ARG001 - the signature of `Skip`
    """Read every row."""
    return False


@dataclass(frozen=True, slots=True)
class Input:
    """Something rows are read from: a file, a data set on the hub, or standard input.

    Attributes:
        name: What identifies it among others, without folders: a file name, a data set's name, or "stdin".
        size_hint: How many rows it has at most, where that is known without parsing them.

    Example:
        >>> numbers = [RawRow(i, i + 1, {"n": i}) for i in range(3)]
        >>> source = Input("numbers", read=lambda skip: (row for row in numbers if not skip(row.position)))
        >>> [row.position for row in source.rows(skip={1}.__contains__)]
        [0, 2]
    """

    name: str
    read: Callable[[Skip], Iterator[Row]]
    digest: Callable[[], str | None] = lambda: None
    size_hint: int | None = None

    def rows(self, skip: Skip = skip_nothing) -> Iterator[Row]:
        """Yield the rows one by one, in order, holding only a few in memory.

        A bad row comes out as a `RejectedRow` and never ends the iteration. Data that ends too early or is damaged
        (a gzip file cut off in the middle) comes out as one last `RejectedRow`, after every row before the damage.

        Args:
            skip: Tells by its position whether a row may be left out. In JSON lines such a row is not even parsed.

        Raises:
            DataError: The input itself cannot be read any further: a file is gone, the hub does not answer.
        """
        return self.read(skip)

    def fingerprint(self) -> str | None:
        """Return what changes whenever the rows do: a SHA-256 of a file's bytes, a revision of a data set.

        None where nothing such exists (standard input).

        Raises:
            DataError: The file cannot be read.
        """
        return self.digest()
