"""The groups of several inputs, read as one: `read_sources`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from flip_reward.core.conversation import Group
from flip_reward.data.rows import Input, InvalidRow, RawRow, Skip, skip_nothing
from flip_reward.data.shapes import Shape
from flip_reward.errors import DataError


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row as it was read, and which responses of which group stand in it."""

    row: RawRow | InvalidRow
    source: str
    group: SourceRow | None
    """None where the row was rejected; `rejected` then says why."""
    first: int = 0
    """The index in the group of its first response."""
    count: int = 0
    """How many responses of the group are its own."""
    rejected: InvalidRow | None = None


def place_rows(inputs: Sequence[Input], shape: Shape, *, limit: int | None = None) -> Iterator[PlacedRow]:
    """Read all rows of the inputs in their order, each with the responses in it: a user's table, scored."""
    first = 0
    for source in inputs:
        count = 0
        for row in source.rows():
            position, count = first + row.position, row.position + 1
            if limit is not None and position >= limit:
                return
            if isinstance(row, InvalidRow):
                yield PlacedRow(row, source.name, None, rejected=replace(row, position=position, source=source.name))
                continue
            try:
                group = shape.to_group(row.values, f"row-{position}")
            except DataError as error:
                rejected = InvalidRow(position, row.line, str(error), source.name)
                yield PlacedRow(row, source.name, None, rejected=rejected)
            else:
                found = SourceRow(position, source.name, row.line, group)
                yield PlacedRow(row, source.name, found, 0, len(group.responses))
        first += count


def read_sources(
    inputs: Sequence[Input],
    shape: Shape,
    *,
    is_completed: Skip = skip_nothing,
    limit: int | None = None,
) -> Iterator[SourceRow | InvalidRow]:
    """Read inputs one after the other. A row without an id is called "row-" and its place among all rows, from 0."""
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
            if isinstance(row, InvalidRow):
                yield replace(row, position=position, source=source.name)
                continue
            try:
                yield SourceRow(position, source.name, row.line, shape.to_group(row.values, f"row-{position}"))
            except DataError as error:
                yield InvalidRow(position, row.line, str(error), source.name)
        first += count
    if first == 0:
        names = ", ".join(source.name for source in inputs)
        raise DataError(f"{names}: there are no rows")
