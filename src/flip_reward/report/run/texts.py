"""The texts of a run's rows, which its records do not hold: from the inputs, or from the candidates of a policy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from flip_reward.core.conversation import Message
from flip_reward.data.groups import SourceRow, read_sources
from flip_reward.data.shapes import Need, find_shape
from flip_reward.errors import FlipRewardError
from flip_reward.scoring.folders import CANDIDATES, MANIFEST
from flip_reward.scoring.job import reopen_inputs
from flip_reward.scoring.manifest import Manifest
from flip_reward.selection.candidates import read_candidates
from flip_reward.selection.policy import open_for_candidates


@dataclass(frozen=True, slots=True)
class RowTexts:
    """Of one row; empty where its input is gone."""

    messages: tuple[Message, ...] = ()
    responses: dict[int, str | None] = field(default_factory=dict)
    """By index; None for one that the policy failed to write."""
    source: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class RunTexts:
    """The texts of some rows by their position, and why some are missing."""

    rows: dict[int, RowTexts]
    missing: str | None = None


def read_run_texts(folder: Path, rows: Collection[int]) -> RunTexts:
    """Read the texts of some rows of a run; what cannot be read is missing, and never an error."""
    sampled = (folder / CANDIDATES).exists()
    missing, found = None, {}
    try:
        found = {row.position: row for row in _read_inputs(folder, rows, sampled=sampled)}
    except FlipRewardError as error:
        missing = str(error)
    if not sampled:
        return RunTexts({position: _of_input(row) for position, row in found.items()}, missing)
    candidates = read_candidates(folder, rows)
    return RunTexts(
        {
            position: RowTexts(
                found[position].group.messages if position in found else (),
                {index: candidate.response for index, candidate in those.items()},
            )
            for position, those in candidates.items()
        },
        missing,
    )


def _of_input(row: SourceRow) -> RowTexts:
    return RowTexts(row.group.messages, dict(enumerate(row.group.responses)), row.source, row.line)


def _read_inputs(folder: Path, rows: Collection[int], *, sampled: bool) -> list[SourceRow]:
    configuration = Manifest.read(folder / MANIFEST).configuration
    inputs = reopen_inputs(folder)
    if sampled:
        inputs = [open_for_candidates(source) for source in inputs]
    found = read_sources(
        inputs,
        find_shape(inputs, configuration.columns, need=Need.PROMPTS if sampled else Need.RESPONSES),
        is_completed=lambda position: position not in rows,
        limit=None if configuration.grouping else max(rows, default=-1) + 1,
        grouping=configuration.grouping,
    )
    return [row for row in found if isinstance(row, SourceRow) and row.position in rows]
