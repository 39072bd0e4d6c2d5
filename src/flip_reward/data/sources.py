"""Several inputs as one stream of groups, each with its place in the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flip_reward.core.conversation import Group
from flip_reward.data.rows import Input, RawRow, RowMapper, Skip, skip_nothing
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

    def reject(self, reason: str) -> Rejection:
        """Say why the row cannot be scored after all."""
        return Rejection(self.source, self.line, reason)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that cannot be scored.

    Attributes:
        source: The input's name.
        line: Its line in that input, from 1.
        reason: Why.
    """

    source: str
    line: int
    reason: str


def read_sources(
    inputs: Sequence[Input],
    mapper: RowMapper,
    *,
    is_settled: Skip = skip_nothing,
    limit: int | None = None,
) -> Iterator[SourceRow | Rejection]:
    """Read inputs one after the other.

    Args:
        inputs: What to read.
        mapper: Makes groups of rows. A row without an id is called "row-" and its place among all rows, from 0.
        is_settled: Tells by its place whether a row is left out, without being parsed where the format allows it.
        limit: Stop after so many rows.

    Raises:
        DataError: An input cannot be read any further, or there is no row at all.
    """
    first = 0
    for source in inputs:
        counter = _Counter(is_settled, first, limit)
        for row in source.rows(counter.skips):
            counter.count = max(counter.count, row.position + 1)
            if counter.beyond(row.position):
                return
            position = first + row.position
            if isinstance(row, RawRow):
                try:
                    yield SourceRow(position, source.name, row.line, mapper.to_group(row.values, f"row-{position}"))
                except DataError as error:
                    yield Rejection(source.name, row.line, str(error))
            else:
                yield Rejection(source.name, row.line, row.reason)
        first += counter.count
    if first == 0:
        names = ", ".join(source.name for source in inputs)
        raise DataError(f"{names}: there are no rows")


class _Counter:
    """Counts the rows of one input, those left out included."""

    def __init__(self, is_settled: Skip, first: int, limit: int | None) -> None:
        self._is_settled = is_settled
        self._first = first
        self._limit = limit
        self.count = 0

    def beyond(self, position: int) -> bool:
        return self._limit is not None and self._first + position >= self._limit

    def skips(self, position: int) -> bool:
        self.count = position + 1
        return not self.beyond(position) and self._is_settled(self._first + position)
