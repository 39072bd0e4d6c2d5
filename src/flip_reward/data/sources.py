"""Several inputs as one stream of groups, each with its place in the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from flip_reward.core.conversation import Group
from flip_reward.data.rows import Input, InvalidRow, RowMapper, Skip, skip_nothing
from flip_reward.errors import DataError


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A group and where it stands.

    Attributes:
        position: Its place among the rows of all inputs, from 0.
        source: The input's name.
        line: Its line in that input, from 1.
        group: What is to be scored.
    """

    position: int
    source: str
    line: int
    group: Group

    def reject(self, reason: str) -> InvalidRow:
        """Say why the row cannot be scored after all."""
        return InvalidRow(self.position, self.line, reason, self.source)


def read_sources(
    inputs: Sequence[Input],
    mapper: RowMapper,
    *,
    is_completed: Skip = skip_nothing,
    limit: int | None = None,
) -> Iterator[SourceRow | InvalidRow]:
    """Read inputs one after the other.

    Args:
        inputs: What to read.
        mapper: Makes groups of rows. A row without an id is called "row-" and its place among all rows, from 0.
        is_completed: Tells by its place whether a row is left out, without being parsed where the format allows it.
        limit: Stop after so many rows.
    """
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
                yield SourceRow(position, source.name, row.line, mapper.to_group(row.values, f"row-{position}"))
            except DataError as error:
                yield InvalidRow(position, row.line, str(error), source.name)
        first += count
    if first == 0:
        names = ", ".join(source.name for source in inputs)
        raise DataError(f"{names}: there are no rows")
