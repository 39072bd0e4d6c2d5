"""What best of N gives for each row of a run: the chosen response, and every candidate with its score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from flip_reward.core.conversation import Group
from flip_reward.core.score import Score
from flip_reward.data.sources import Rejection, SourceRow
from flip_reward.data.tables import write_output, write_parquet
from flip_reward.errors import RunError
from flip_reward.scoring.run_folder import read_records_in_input_order
from flip_reward.selection.candidates import DrawnGroup
from flip_reward.selection.choice import Selection, TieRule, select_best

if TYPE_CHECKING:
    from pyarrow import Schema

BEST, UNDECIDED = "best.jsonl", "undecided.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """A row, its candidates, and which was chosen.

    Attributes:
        row: The row's position in the input, from 0.
        group: The conversation and the candidates.
        instruction: What the candidates were scored against.
        scores: A score for each candidate.
        selection: The choice.
        tie_rule: By which rule it was made.
    """

    row: int
    group: Group
    instruction: str
    scores: tuple[Score, ...]
    selection: Selection
    tie_rule: TieRule

    def to_json(self) -> dict[str, object]:
        """Return the fields of the row's line in the output."""
        selection = self.selection
        return {
            "id": self.group.id,
            "row": self.row,
            "instruction": self.instruction,
            "messages": [{"role": turn.role, "content": turn.content} for turn in self.group.messages],
            "chosen": selection.index,
            "response": selection.response,
            "reward": None if selection.index is None else self.scores[selection.index].value,
            "tied": list(selection.tied),
            "tie_rule": self.tie_rule.value,
            "unscored": selection.unscored,
            "reason": selection.reason,
            "candidates": [self._describe(index) for index in range(len(self.scores))],
        }

    def _describe(self, index: int) -> dict[str, object]:
        drawn = self.group.candidates[index] if isinstance(self.group, DrawnGroup) else None
        score = self.scores[index]
        return {
            "response": drawn.response if drawn else self.group.responses[index],
            "reward": score.value,
            "outcome": score.outcome.value,
            "detail": score.detail,
            "seed": drawn.seed if drawn else None,
            "truncated": drawn.truncated if drawn else None,
        }


@dataclass(slots=True)
class Tally:
    """Counts results as they are written.

    Attributes:
        rows: How many there were.
        tied: In how many the tie rule decided.
        single: How many had one response, which was chosen without a comparison.
        undecided: In how many nothing was scored.
    """

    rows: int = 0
    tied: int = 0
    single: int = 0
    undecided: int = 0

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
    folder: Path, rows: Iterator[SourceRow | Rejection], *, tie_rule: TieRule, seed: int
) -> Iterator[Result]:
    """Choose in every row of a finished run, in the order of the input.

    Args:
        folder: The run folder.
        rows: All rows of its input, in order.
        tie_rule: See `select_best`.
        seed: See `select_best`.

    Raises:
        RunError: The records do not belong to the rows.
    """
    for position, records in groupby(read_records_in_input_order(folder), key=attrgetter("row")):
        found = list(records)
        row = next((row for row in rows if isinstance(row, SourceRow) and row.position == position), None)
        group = None if row is None else row.group
        if group is None or group.id != found[0].group_id or len(group.responses) != len(found):
            raise RunError(
                f"the records of row {position + 1} in {folder} do not belong to the input",
                hint="the input has changed, or a file of the run folder; begin again in another folder",
            )
        scores = tuple(record.score for record in found)
        selection = select_best(group, scores, tie_rule=tie_rule, seed=seed)
        yield Result(position, group, found[0].instruction, scores, selection, tie_rule)


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write a line for each result: JSON lines, gzipped JSON lines or Parquet, by the file's name.

    Raises:
        OptionError: The format is unknown by the file's name.
        StorageError: The disk is full or not writable. Nothing is left behind.
    """
    lines = (result.to_json() for result in results)
    if path.name.lower().endswith(".parquet"):
        write_parquet(path, lines, _schema)
    else:
        write_output(path, lines)


def _schema(arrow: ModuleType) -> Schema:
    text, index, number = arrow.string(), arrow.int32(), arrow.float64()
    candidate = {
        "response": text,
        "reward": number,
        "outcome": text,
        "detail": text,
        "seed": arrow.int64(),
        "truncated": arrow.bool_(),
    }
    columns = {
        "id": text,
        "row": arrow.int64(),
        "instruction": text,
        "messages": arrow.list_(arrow.struct({"role": text, "content": text}.items())),
        "chosen": index,
        "response": text,
        "reward": number,
        "tied": arrow.list_(index),
        "tie_rule": text,
        "unscored": index,
        "reason": text,
        "candidates": arrow.list_(arrow.struct(candidate.items())),
    }
    return arrow.schema(columns.items())
