"""Best of N as a table: the user's rows, with which response was chosen among the columns that are added."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from flip_reward.core.score import Score
from flip_reward.data.added import arrange, arranged_types
from flip_reward.data.groups import PlacedRow
from flip_reward.data.shapes import Shape
from flip_reward.scoring.output import RowResult, ScoreColumns
from flip_reward.selection.candidates import CandidateFile, SampledGroup
from flip_reward.selection.policy import Policy, put_candidates
from flip_reward.selection.results import Result


class Keep(StrEnum):
    """Which rows are written."""

    BEST = "best"
    """Of rows with one response each, those with a chosen one. Rows that hold several responses all stay."""
    ALL = "all"
    """All rows, with the rank of every response."""


class Choices:
    """Which response of each group was chosen, and the rank of each: a dozen bytes a row, four more a response."""

    def __init__(self) -> None:
        self._starts, self._chosen, self._ranks = array("q"), array("i"), array("i")

    def note(self, results: Iterable[Result]) -> Iterator[Result]:
        """Remember results while they pass."""
        for result in results:
            missing = result.row + 1 - len(self._starts)
            self._starts.extend([-1] * missing)
            self._chosen.extend([-1] * missing)
            self._starts[result.row] = len(self._ranks)
            index = result.selection.index
            self._chosen[result.row] = -1 if index is None else index
            self._ranks.extend(_rank(result.scores))
            yield result

    def chosen(self, row: RowResult) -> int | None:
        """Say which of a row's own responses was chosen."""
        position, first = _position(row), row.placed.first
        found = self._chosen[position] if position < len(self._chosen) else -1
        return found - first if first <= found < first + row.placed.count else None

    def ranks(self, row: RowResult) -> list[object]:
        """Return the ranks of a row's own responses; None for those without a value."""
        position = _position(row)
        if position >= len(self._starts) or self._starts[position] < 0:
            return [None] * row.placed.count
        start = self._starts[position] + row.placed.first
        return [rank or None for rank in self._ranks[start : start + row.placed.count]]


def _position(row: RowResult) -> int:
    assert row.placed.group is not None  # noqa: S101 - it was scored
    return row.placed.group.position


def _rank(scores: Sequence[Score]) -> list[int]:
    values = sorted((score.value for score in scores if score.value is not None), reverse=True)
    ranks: dict[float, int] = {}
    for place, value in enumerate(values, 1):
        ranks.setdefault(value, place)
    return [0 if score.value is None else ranks[score.value] for score in scores]


class ChoiceColumns:
    """The columns of the scores, and which response was chosen.

    Of rows with one response each, all are kept or the chosen ones; where all are, `chosen` is true or false. A row
    with several responses names the chosen one, by its place from 0 or by its column, and repeats it as
    `chosen_response`. `rank` is 1 for the highest reward, and equal rewards have the same. With `generated` a row
    also gets the `responses` that a policy wrote. `parts` are what the rewards are made of.
    """

    def __init__(
        self, shape: Shape, keep: Keep, choices: Choices, *, parts: Sequence[str] = (), generated: bool = False
    ) -> None:
        self._shape, self._keep, self._choices, self._generated = shape, keep, choices, generated
        self._several = shape.many or bool(shape.candidate_columns)
        self._scores = ScoreColumns(shape, parts)

    @property
    def types(self) -> Mapping[str, object]:
        """The columns and their types."""
        types = dict(self._scores.types)
        if self._keep is Keep.ALL:
            types |= arranged_types({"rank": int | None}, self._shape)
        if self._several:
            types |= {"chosen": int | None if self._shape.many else str | None, "chosen_response": str | None}
        elif self._keep is Keep.ALL:
            types["chosen"] = bool | None
        if self._generated:
            types["responses"] = list[str | None] | None
        return types

    def add(self, row: RowResult) -> Mapping[str, object] | None:
        """Lay out the scores of a row and the choice; None where only the chosen rows are kept and this is none."""
        if row.placed.group is None or row.rejected is not None:
            return self._scores.add(row) if self._several or self._keep is Keep.ALL else None
        own, group = self._choices.chosen(row), row.placed.group.group
        whole = self._several and row.placed.count == row.group_size
        if self._keep is Keep.BEST and own is None and not whole:
            return None
        added = dict(self._scores.add(row))
        if self._keep is Keep.ALL:
            added |= arrange({"rank": self._choices.ranks(row)}, self._shape)
        if self._several:
            named = own if self._shape.many or own is None else self._shape.candidate_columns[own]
            added |= {"chosen": named, "chosen_response": None if own is None else group.responses[own]}
        elif self._keep is Keep.ALL:
            added["chosen"] = own is not None
        if self._generated and isinstance(group, SampledGroup):
            added["responses"] = [candidate.response for candidate in group.candidates]
        return added


def place_candidates(rows: Iterable[PlacedRow], file: CandidateFile, policy: Policy) -> Iterator[PlacedRow]:
    """Put the candidates that were sampled into placed rows."""
    for row in rows:
        if row.group is None:
            yield row
        else:
            yield replace(row, group=put_candidates(row.group, file, policy), count=policy.count)
