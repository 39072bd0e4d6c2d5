"""The results of best of N: for each row the chosen response, and every candidate with its score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Self

import orjson
from pydantic import TypeAdapter

from flip_reward.core.conversation import Group, Message
from flip_reward.core.response import visible_answer
from flip_reward.core.score import Outcome, Score
from flip_reward.data.files import atomic_file
from flip_reward.data.groups import SourceRow
from flip_reward.data.rows import InvalidRow
from flip_reward.data.tables import write_table
from flip_reward.errors import RunError
from flip_reward.scoring.run_folder import read_records_in_input_order
from flip_reward.selection.candidates import SampledGroup
from flip_reward.selection.choice import Selection, TieRule, select_best

BEST, UNDECIDED, CHOICES = "best.jsonl", "undecided.jsonl", "choices.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """A row, its candidates with a score for each, and which was chosen by which rule."""

    row: int
    group: Group
    instruction: str
    scores: tuple[Score, ...]
    selection: Selection
    tie_rule: TieRule


@dataclass(frozen=True, slots=True)
class CandidateLine:
    """A candidate as it stands in the output; `seed` and `truncated` are known of those that a policy wrote."""

    response: str | None
    reward: float | None
    outcome: Outcome
    detail: str | None
    seed: int | None
    truncated: bool | None


@dataclass(frozen=True, slots=True)
class ResultLine:
    """The fields of a row as they stand in the output, in this order."""

    id: str
    row: int
    instruction: str
    messages: tuple[Message, ...]
    chosen: int | None
    response: str | None
    reward: float | None
    tied: tuple[int, ...]
    tie_rule: TieRule
    unscored: int
    reason: str | None
    candidates: tuple[CandidateLine, ...]

    @classmethod
    def of(cls, result: Result) -> Self:
        """Lay out a result."""
        selection = result.selection
        return cls(
            result.group.id,
            result.row,
            result.instruction,
            result.group.messages,
            selection.index,
            selection.response,
            None if selection.index is None else result.scores[selection.index].value,
            selection.tied,
            result.tie_rule,
            selection.unscored,
            selection.reason,
            tuple(_lay_out(result, index) for index in range(len(result.scores))),
        )


def _lay_out(result: Result, index: int) -> CandidateLine:
    group, score = result.group, result.scores[index]
    sampled = group.candidates[index] if isinstance(group, SampledGroup) else None
    return CandidateLine(
        sampled.response if sampled else group.responses[index],
        score.value,
        score.outcome,
        score.detail,
        sampled.seed if sampled else None,
        sampled.truncated if sampled else None,
    )


@dataclass(slots=True)
class SelectionCounts:
    """Counts results as they are written."""

    rows: int = 0
    tied: int = 0
    """In how many the tie rule decided."""
    single: int = 0
    """How many had one response, which was chosen without a comparison."""
    undecided: int = 0
    """In how many nothing was scored."""

    @property
    def decided(self) -> int:
        """In how many rows a response was chosen."""
        return self.rows - self.undecided

    def count(self, results: Iterable[Result]) -> Iterator[Result]:
        """Count results while they pass."""
        for result in results:
            self.rows += 1
            self.tied += bool(result.selection.tied)
            self.undecided += result.selection.index is None
            self.single += len(result.scores) == 1 and result.selection.index is not None
            yield result


def choose_in_run(
    folder: Path,
    rows: Iterator[SourceRow | InvalidRow],
    *,
    tie_rule: TieRule,
    seed: int,
    read: Callable[[str], str | Outcome] = visible_answer,
    limit: int | None = None,
) -> Iterator[Result]:
    """Choose in every row of a finished run, in the order of the input.

    `rows` are all rows of its input, or the first up to `limit`, in order; for the others see `select_best`.
    """
    for position, records in groupby(read_records_in_input_order(folder), key=attrgetter("row")):
        if limit is not None and position >= limit:
            return
        found = list(records)
        row = next((row for row in rows if isinstance(row, SourceRow) and row.position == position), None)
        group = None if row is None else row.group
        if limit is not None and group is not None:
            found = found[: len(group.responses)]  # those in rows beyond the limit
        if group is None or group.id != found[0].group_id or len(group.responses) != len(found):
            raise RunError(
                f"the records of row {position + 1} in {folder} do not belong to the input",
                hint="the input has changed, or a file of the run folder; begin again in another folder",
            )
        scores = tuple(record.score for record in found)
        selection = select_best(group, scores, tie_rule=tie_rule, seed=seed, read=read)
        yield Result(position, group, found[0].instruction, scores, selection, tie_rule)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen in a row, without the texts, as a line of `choices.jsonl` in the run folder."""

    row: int
    chosen: int | None
    tied: tuple[int, ...]
    tie_rule: TieRule


def keep_choices(folder: Path, results: Iterable[Result]) -> Iterator[Result]:
    """Keep the choices in the run folder while results pass."""
    with atomic_file(folder / CHOICES) as file:
        for result in results:
            selection = result.selection
            choice = Choice(result.row, selection.index, selection.tied, result.tie_rule)
            file.write(orjson.dumps(choice, option=orjson.OPT_APPEND_NEWLINE))
            yield result


def read_choices(folder: Path) -> Iterator[Choice]:
    """Read the choices of a run in the order of its rows; none where nothing was chosen."""
    reader = TypeAdapter(Choice)
    try:
        with (folder / CHOICES).open("rb") as file:
            yield from map(reader.validate_json, file)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder / CHOICES} cannot be read", hint="the same best-of-n command writes it anew"
        ) from error


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write a line for each result: JSON lines, gzipped JSON lines or Parquet, by the file's name."""
    write_table(path, map(ResultLine.of, results), ResultLine)
