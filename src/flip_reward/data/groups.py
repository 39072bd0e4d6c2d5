"""The groups of several inputs, read as one: `read_sources`. Where the responses of each row are: `place_rows`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TypeAlias

from pydantic import TypeAdapter

from flip_reward.core.conversation import Group
from flip_reward.data.cells import is_missing, read_id
from flip_reward.data.grouping import Grouping, Places, TemporaryDatabase, UniqueIds
from flip_reward.data.rows import Input, InvalidRow, RawRow, Skip, skip_nothing
from flip_reward.data.shapes import Shape
from flip_reward.errors import DataError


@dataclass(slots=True)
class SourceRow:
    """A group and where it stands."""

    position: int
    """Its place among the rows of all inputs, from 0."""
    source: str
    line: int
    """Its line in that input, from 1."""
    group: Group

    def reject(self, reason: str) -> InvalidRow:
        """Say why the row cannot be scored after all."""
        return InvalidRow(self.position, self.line, reason, self.source)


@dataclass(slots=True)
class PlacedRow:
    """A row as it was read, and which responses of which group stand in it."""

    row: RawRow | InvalidRow
    source: str
    group: SourceRow | None
    """The position of its group, with the row's own responses. None where it was rejected; `rejected` says why."""
    first: int = 0
    """The index in the group of its first response."""
    count: int = 0
    """How many responses of the group are its own."""
    rejected: InvalidRow | None = None

    @property
    def found(self) -> SourceRow | InvalidRow:
        """What became of the row: its part of a group, or a rejected row."""
        found = self.group or self.rejected
        assert found is not None  # noqa: S101 - a row has one of both
        return found


def place_rows(
    inputs: Sequence[Input],
    shape: Shape,
    *,
    grouping: Grouping | None = None,
    limit: int | None = None,
    is_elsewhere: Skip = skip_nothing,
) -> Iterator[PlacedRow]:
    """Read all rows of the inputs in their order, each with the responses in it: a user's table, scored.

    The groups whose positions are said to be elsewhere are left out.
    """
    rows = _read_rows(inputs, shape, skip_nothing if grouping else is_elsewhere, limit)
    placed = rows if grouping is None else _place(rows, grouping)
    return (row for row in placed if not is_elsewhere(row.found.position))


def _place(rows: Iterable[PlacedRow], grouping: Grouping) -> Iterator[PlacedRow]:
    with closing(Places(grouping)) as places:
        for row in rows:
            if row.group is None or isinstance(row.row, InvalidRow):
                yield row
                continue
            place = places.place(row.group.position, row.row, row.group.group)
            yield replace(row, group=replace(row.group, position=place.position), first=place.first)


def read_sources(
    inputs: Sequence[Input],
    shape: Shape,
    *,
    is_completed: Skip = skip_nothing,
    is_whole: Callable[[SourceRow], bool] = lambda _: False,
    limit: int | None = None,
    grouping: Grouping | None = None,
    ids: UniqueIds | None = None,
    is_elsewhere: Skip = skip_nothing,
) -> Iterator[SourceRow | InvalidRow]:
    """Read the groups of inputs one after the other, each where its first row stands.

    A row without an id is called "row-" and its place among all rows, from 0. `ids` gives groups with the same id
    names of their own. What is completed is left out: a row, or a group of several rows as it is now. So is what is
    elsewhere, by the position of the group.
    """

    def is_left_out(position: int) -> bool:
        return is_elsewhere(position) or is_completed(position)

    skip = is_completed if is_elsewhere is skip_nothing else is_left_out
    rows = _read_rows(inputs, shape, skip_nothing if grouping else skip, limit)
    if ids is not None:
        rows = _count_odd_ids(rows, shape, ids)
    for found in map(attrgetter("found"), rows) if grouping is None else _join(_place(rows, grouping), grouping):
        if is_elsewhere(found.position):
            continue
        if isinstance(found, InvalidRow) or ids is None:
            yield found
        elif grouping is None or not is_whole(found):
            group_id = found.group.id
            name = ids.claim(group_id, row=found.position)
            yield found if name == group_id else replace(found, group=replace(found.group, id=name))


def _count_odd_ids(rows: Iterable[PlacedRow], shape: Shape, ids: UniqueIds) -> Iterator[PlacedRow]:
    for row in rows:
        if row.group is not None and isinstance(row.row, RawRow):
            value = row.row.values.get(shape.id)
            if value != row.group.group.id and read_id(value) is None and not is_missing(value):
                ids.count_odd(row.group.position)
        yield row


def _read_rows(inputs: Sequence[Input], shape: Shape, is_completed: Skip, limit: int | None) -> Iterator[PlacedRow]:
    """Read every row as a group of its own, except the completed ones."""
    first = count = 0  # where the input begins among all rows, and how many rows it has had, those left out included

    def skip(position: int) -> bool:
        nonlocal count
        count = position + 1
        return (limit is None or first + position < limit) and is_completed(first + position)

    for source in inputs:
        count = 0
        for row in source.rows(skip):
            count = max(count, row.position + 1)
            position = first + row.position
            if limit is not None and position >= limit:
                return
            yield _read_row(row, position, source.name, shape)
        first += count
    if first == 0:
        names = ", ".join(source.name for source in inputs)
        read_as = "; ".join(source.remark for source in inputs if source.remark)  # such as a sheet of several
        raise DataError(f"{names}: there are no rows", hint=f"read was {read_as}" if read_as else None)


def _read_row(row: RawRow | InvalidRow, position: int, source: str, shape: Shape) -> PlacedRow:
    if isinstance(row, InvalidRow):
        return PlacedRow(row, source, None, rejected=replace(row, position=position, source=source))
    try:
        group = shape.to_group(row.values, f"row-{position}")
    except DataError as error:
        return PlacedRow(row, source, None, rejected=InvalidRow(position, row.line, str(error), source))
    return PlacedRow(row, source, SourceRow(position, source, row.line, group), 0, len(group.responses))


def _join(rows: Iterable[PlacedRow], grouping: Grouping) -> Iterator[SourceRow | InvalidRow]:
    """Join the rows of each group."""
    for parts in _follow(rows) if grouping.column is None else _gather(rows):
        first = parts[0]
        if isinstance(first, InvalidRow):
            yield first
        else:
            responses = [
                response for part in parts if isinstance(part, SourceRow) for response in part.group.responses
            ]
            yield replace(first, group=replace(first.group, responses=tuple(responses)))


_Parts: TypeAlias = Sequence[SourceRow | InvalidRow]
"""The rows of one group, or one rejected row."""


def _follow(rows: Iterable[PlacedRow]) -> Iterator[_Parts]:
    """Collect the rows of each group, which follow each other but for rejected ones."""
    begun: list[SourceRow] = []
    for row in rows:
        if row.group is None:
            yield [row.found]
            continue
        if begun and row.group.position != begun[0].position:
            yield begun
            begun = []
        begun.append(row.group)
    if begun:
        yield begun


def _gather(rows: Iterable[PlacedRow]) -> Iterator[_Parts]:
    """Gather the rows of each group from everywhere, by way of a temporary file."""
    columns = "position INTEGER, first INTEGER, kept BLOB, PRIMARY KEY (position, first)"
    with closing(TemporaryDatabase(f"CREATE TABLE rows ({columns}) WITHOUT ROWID")) as database:
        for row in rows:
            kept = _found_rows().dump_json(row.found)
            database.execute("INSERT INTO rows VALUES (?, ?, ?)", (row.found.position, row.first, kept))
        ordered = database.execute("SELECT position, kept FROM rows ORDER BY position, first")
        for _, group in groupby(ordered, key=itemgetter(0)):
            yield [_found_rows().validate_json(kept) for _, kept in group]


@cache
def _found_rows() -> TypeAdapter[SourceRow | InvalidRow]:
    return TypeAdapter(SourceRow | InvalidRow)
