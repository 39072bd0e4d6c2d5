"""How rows that hold one response each form groups: `find_grouping` looks at the first ones, `Places` at each."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from flip_reward.core.conversation import Group
from flip_reward.data.cells import is_missing, read_id
from flip_reward.data.rows import Input, RawRow, Row
from flip_reward.data.shapes import Shape
from flip_reward.data.shapes.columns import list_columns
from flip_reward.errors import DataError, OptionError, StorageError

ROWS_LOOKED_AT = 1000
"""Of each input, to find out whether its rows form groups."""
MOST_ADJACENT = 256
"""Rows with the same instruction that follow each other form groups of at most this many responses."""
MOST_GATHERED = 4096
"""Rows with the same value of a column form groups of at most this many responses."""
_MOST_CHARACTERS = 32 << 20  # of the responses of a group


@dataclass(frozen=True, slots=True)
class Grouping:
    """How rows form groups. A group has one conversation: rows with another one are never in it.

    Attributes:
        column: Rows with the same value there form a group wherever they stand; one without a value is alone. None
            where rows with the same instruction form a group when they follow each other.
    """

    column: str | None = None

    def __str__(self) -> str:
        """Say it in words.

        Example:
            >>> print(Grouping("ticket"))
            Rows with the same 'ticket' form a group
        """
        if self.column is None:
            return "Rows with the same instruction that follow each other form a group"
        return f"Rows with the same {self.column!r} form a group"


@dataclass(frozen=True, slots=True)
class FoundGrouping:
    """What the first rows of inputs say about groups."""

    grouping: Grouping | None = None
    """None where every row is a group of its own."""
    groups: int = 0
    """How many groups of several rows are among them."""
    rows: int = 0
    """How many rows were looked at."""

    @property
    def description(self) -> str:
        """What there is to say: nothing where every row is a group of its own.

        Example:
            >>> FoundGrouping(Grouping("id"), 12, rows=40).description
            "Rows with the same 'id' form a group: 12 groups of several rows"
        """
        if self.grouping is None:
            return ""
        there = "" if self.rows < ROWS_LOOKED_AT else f" among the first {self.rows:,}"
        return f"{self.grouping}: {self.groups} {'group' if self.groups == 1 else 'groups'} of several rows{there}"


def find_grouping(inputs: Sequence[Input], shape: Shape, column: str | None = None) -> FoundGrouping:
    """Find out whether rows form groups, from the first rows of each input.

    They do by a column that the user names; by ids that come again with the same conversation; or by a conversation
    that comes again in the next row. Rows with several responses are groups already, and prompts never are. How many
    rows are wanted makes no difference, so that a run goes on beyond its limit.
    """
    if not isinstance(column, str | None):
        raise OptionError(f"--group-by: the name of a column is a text, and not {column!r}")
    by_id = Grouping(shape.id)
    if shape.prompts_only:
        if column:
            raise OptionError("--group-by: a group of prompts has no use", hint="leave it out")
        return FoundGrouping()
    counts = [_Count(one) for one in ([Grouping(column)] if column else [by_id, Grouping()])]
    columns: dict[str, None] = {}
    position = -1
    for position, row in enumerate(_first_rows(inputs)):
        if isinstance(row, RawRow):
            columns.update(dict.fromkeys(row.values))
            for one in counts:
                one.add(position, row, shape)
    if column and columns and column not in columns:
        hint = list_columns(columns, "the columns are")
        raise OptionError(f"--group-by: there is no column {column!r}", hint=hint)
    if column and 0 < counts[0].rows == counts[0].with_several:
        raise OptionError("--group-by: the rows hold several responses already", hint="leave it out")
    found = next((count for count in counts if count.several or column), None)
    return FoundGrouping(found.grouping, found.several, position + 1) if found else FoundGrouping()


def _first_rows(inputs: Sequence[Input]) -> Iterator[Row]:
    return chain.from_iterable(islice(source.rows(), ROWS_LOOKED_AT) for source in inputs)


class _Count:
    """Counts rows, those with several responses, and the groups of several rows that a way of grouping makes."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.rows = self.with_several = self.several = 0
        self._places = Places(grouping)

    def add(self, position: int, row: RawRow, shape: Shape) -> None:
        with suppress(DataError):
            group = shape.to_group(row.values, "")
            self.rows += 1
            self.with_several += len(group.responses) > 1
            self.several += self._places.place(position, row, group).first == 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where the responses of a row stand in the group it belongs to."""

    position: int
    """The position of the group's first row."""
    first: int = 0
    """The index of the row's first response among those of the group."""


class Places:
    """Tells which group each row belongs to, given all rows in their order.

    What it knows of rows that are to be gathered from everywhere is in a temporary database, so that memory does not
    grow with the rows.
    """

    def __init__(self, grouping: Grouping) -> None:
        self._column = grouping.column
        self._most = MOST_ADJACENT if self._column is None else MOST_GATHERED
        self._last: tuple[bytes, _Begun] | None = None
        self._database = TemporaryDatabase(
            "CREATE TABLE begun (key BLOB PRIMARY KEY, position INTEGER, responses INTEGER, characters INTEGER)"
            " WITHOUT ROWID"
        )

    def place(self, position: int, row: RawRow, group: Group) -> Place:
        """Find the group of the next row; `group` is the row by itself. Several responses are a group already."""
        value = "" if self._column is None else name_value(row.values.get(self._column))
        if value is None or len(group.responses) > 1:
            self._last = None
            return Place(position)
        named = [value, *((message.role, message.content) for message in group.messages)]
        key = hashlib.sha256(json.dumps(named).encode()).digest()
        characters = len(group.responses[0])
        begun = self._find(key)
        if begun is None or begun.responses == self._most or begun.characters + characters > _MOST_CHARACTERS:
            begun = _Begun(position, 0, 0)
        self._keep(key, _Begun(begun.position, begun.responses + 1, begun.characters + characters))
        return Place(begun.position, begun.responses)

    def _find(self, key: bytes) -> _Begun | None:
        if self._column is None:
            return self._last[1] if self._last and self._last[0] == key else None
        found = self._database.execute("SELECT position, responses, characters FROM begun WHERE key = ?", (key,))
        return next((_Begun(*values) for values in found), None)

    def _keep(self, key: bytes, begun: _Begun) -> None:
        if self._column is None:
            self._last = (key, begun)
        else:
            self._database.execute("INSERT OR REPLACE INTO begun VALUES (?, ?, ?, ?)", (key, *begun))

    def close(self) -> None:
        """Drop the database."""
        self._database.close()


class _Begun(NamedTuple):
    """What there is of a group."""

    position: int
    responses: int
    characters: int


def name_value(value: object) -> str | None:
    """Write a cell as text, so that 1, 1.0 and "1" are the same; None where there is nothing."""
    if is_missing(value):
        return None
    return read_id(value) or json.dumps(value, default=repr, sort_keys=True)


_INSERT = "INSERT OR IGNORE INTO ids VALUES"
_NAMES_AT_ONCE = 100
"""Written to the database; one by one it takes twice as long."""


class UniqueIds:
    """Gives every group a name of its own, in a temporary database, so that memory does not grow with the rows.

    `earlier` are names that earlier sessions have given, each with its row. They are read when a name is wanted.

    Attributes:
        repeated: How many groups have the id of an earlier one, and were named after their row.
        odd: How many have an id that names nothing, such as a list.

    Example:
        >>> ids = UniqueIds()
        >>> ids.claim("a", row=0), ids.claim("a", row=7), ids.claim("a", row=0)
        ('a', 'a-row-7', 'a')
        >>> ids.repeated
        1
    """

    def __init__(self, earlier: Iterable[tuple[str, int]] = ()) -> None:
        self.repeated = self.odd = 0
        self._odd_until = -1
        self._earlier = earlier
        self._last = (0, "")
        self._unwritten: list[str | int] = []
        self._database = TemporaryDatabase("CREATE TABLE ids (id TEXT PRIMARY KEY, row INTEGER) WITHOUT ROWID")

    def claim(self, group_id: str, *, row: int) -> str:
        """Return the name of the group at a row: its id, with the row where an earlier group is called that.

        What it returns depends on the rows before it alone, so that a resumed run gives the same names.
        """
        if self._earlier:
            earlier, self._earlier = self._earlier, ()
            for known, owner in earlier:
                self._note(known, owner)
        if (len(group_id), group_id) > self._last:  # as long as ids count up, there is nothing to look for
            self._note(group_id, row)
            return group_id
        self._write()
        name = group_id
        while not self._database.execute(f"{_INSERT} (?, ?)", (name, row)).rowcount:
            [[owner]] = self._database.execute("SELECT row FROM ids WHERE id = ?", (name,))
            if owner == row:
                return name
            name = f"{name}-row-{row}"
        self._last = max(self._last, (len(name), name))
        self.repeated += name != group_id
        return name

    def _note(self, name: str, row: int) -> None:
        self._last = max(self._last, (len(name), name))
        self._unwritten += (name, row)
        if len(self._unwritten) == 2 * _NAMES_AT_ONCE:
            self._write()

    def _write(self) -> None:
        if self._unwritten:
            pairs = ", ".join(["(?, ?)"] * (len(self._unwritten) // 2))
            self._database.execute(f"{_INSERT} {pairs}", self._unwritten)
            self._unwritten.clear()

    def count_odd(self, row: int) -> None:
        """Count a row whose id names nothing, once."""
        self.odd += row > self._odd_until
        self._odd_until = max(row, self._odd_until)

    def close(self) -> None:
        """Drop the database."""
        self._database.close()


class TemporaryDatabase:
    """A database with one table, in a temporary file that has no name."""

    def __init__(self, table: str) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(table)
        self._connection.execute("BEGIN")

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement; a StorageError where the disk has no room."""
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise _no_room(error) from error

    def close(self) -> None:
        """Drop it."""
        self._connection.close()


def _no_room(error: sqlite3.Error) -> StorageError:
    return StorageError(f"cannot write temporary files: {error}", hint="set TMPDIR to a disk with room")
