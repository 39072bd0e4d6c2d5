"""Rows and tables in memory, scored and given back with columns added, as files are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flip_reward.core.conversation import Group
from flip_reward.core.score import Score
from flip_reward.data.added import added_columns, added_types, free_names, rejected_columns
from flip_reward.data.frames import Frame, FrameColumn
from flip_reward.data.grouping import find_grouping
from flip_reward.data.groups import PlacedRow, SourceRow, place_rows, read_sources
from flip_reward.data.rows import Input, InvalidRow
from flip_reward.data.shapes import find_shape
from flip_reward.errors import ConversationError, DataError
from flip_reward.rewards.options import find_parts
from flip_reward.rewards.waiting import gather_all

if TYPE_CHECKING:
    from flip_reward.rewards.base import RewardModel

_LOGGER = logging.getLogger(__name__)

_GROUPS_AT_ONCE = 512


async def score_rows(
    reward: RewardModel,
    rows: Sequence[Mapping[str, object]],
    columns: Mapping[str, str] | None,
    group_by: str | None,
) -> list[dict[str, object]]:
    """Return copies of rows with columns added; a row that cannot be read is an error before anything is asked."""
    if not rows:
        return []
    given = _Rows(Input.in_memory("rows", lambda: rows), columns, group_by, find_parts(reward.settings))
    for row in given.read():
        if isinstance(row, InvalidRow):
            raise DataError(f"row {row.position}: {row.reason}")
        try:
            reward.select_target(row.group)
        except ConversationError as error:
            raise DataError(f"row {row.position}: {error}", hint=error.hint) from error
    names = free_names(given.types, {name for row in rows for name in row})
    scored = await given.score(reward)
    return [
        {**row, **{names[name]: cell for name, cell in cells.items()}}
        for row, cells in zip(rows, scored, strict=True)
    ]


async def score_frame(
    reward: RewardModel, frame: Frame, columns: Mapping[str, str] | None, group_by: str | None
) -> object:
    """Return a table with columns added; a row that cannot be read has the outcome "rejected"."""
    source = Input.in_memory("table", frame.rows, size_hint=len(frame))
    given = _Rows(source, columns, group_by, find_parts(reward.settings))
    scored = await given.score(reward) if len(frame) else []
    names = free_names(given.types, frame.names)
    many = given.shape.many
    return frame.with_columns(
        {
            names[name]: FrameColumn(float if kind in _NUMBERS else str, [cells[name] for cells in scored], many)
            for name, kind in given.types.items()
        }
    )


_NUMBERS = (float | None, list[float | None] | None)


class _Rows:
    """Rows in memory, which are read as those of a file: once for their groups, and once for their places there."""

    def __init__(
        self, source: Input, columns: Mapping[str, str] | None, group_by: str | None, parts: Sequence[str]
    ) -> None:
        self._source = source
        self._parts = parts
        self.shape = find_shape([source], columns)
        if self.shape.found:
            _LOGGER.info("%s: read as %s", source.name, self.shape.description)
        groups = find_grouping([source], self.shape, group_by)
        if groups.grouping:
            _LOGGER.info("%s", groups.description)
        self._grouping = groups.grouping
        self.types = added_types(self.shape, parts)

    def read(self) -> Iterator[SourceRow | InvalidRow]:
        """Read the groups."""
        return read_sources([self._source], self.shape, grouping=self._grouping)

    async def score(self, reward: RewardModel) -> list[dict[str, object]]:
        """Score each group, many at a time, and return what is added to every row."""
        groups = self.read()
        found: dict[int, tuple[Score, ...] | str] = {}

        async def work() -> None:
            for row in groups:  # shared by all workers: each takes the next one
                if isinstance(row, SourceRow):
                    found[row.position] = await _score_or_reject(reward, row.group)

        await gather_all(work() for _ in range(_GROUPS_AT_ONCE))
        placed = place_rows([self._source], self.shape, grouping=self._grouping)
        return [self._lay_out(row, found) for row in placed]

    def _lay_out(self, row: PlacedRow, found: Mapping[int, tuple[Score, ...] | str]) -> dict[str, object]:
        if row.group is None:
            return rejected_columns(row.rejected.reason if row.rejected else "", self.shape, self._parts)
        scores = found[row.group.position]
        if isinstance(scores, str):
            return rejected_columns(scores, self.shape, self._parts)
        return added_columns(scores[row.first : row.first + row.count], self.shape, self._parts)


async def _score_or_reject(reward: RewardModel, group: Group) -> tuple[Score, ...] | str:
    try:
        scores = (await reward.score_group(group)).scores
    except ConversationError as error:
        return str(error)
    return tuple([replace(score, raw_reply=None, samples=()) for score in scores])  # no column shows these
