"""RewardBench 2 (Malik et al. 2025, arXiv 2506.01937): best of four, and prompts with several correct responses.

Rows: allenai/reward-bench-2 on the hub, split "test", 1,865 rows. Six subsets: Factuality, Precise IF, Math, Safety
and Focus, with one chosen and three rejected responses each, and Ties, with several of both. A row, with texts of our
own:

    {"id": "tied:3", "subset": "Ties", "prompt": "Name a primary colour.",
     "chosen": ["Red.", "Blue.", "Yellow."], "rejected": ["Brown.", "Stone.", "Seven."],
     "num_correct": 3, "num_incorrect": 3, "total_completions": 6, "models": ["..."], "additional_metadata": {...}}

Figures: the leaderboard averages the six subsets, where Ties has a score of its own (the paper's appendix): are
correct responses above incorrect ones, by more than they differ among themselves? Its prompts come in pairs: "ref:3"
asks for one correct response, "tied:3" for any of several. With the rewards of a prompt's responses,

    c = min(correct) - max(incorrect)       accurate if c > 0
    d = max(correct) - min(correct)
    m = min(c_ref, c_tied)

    score = .30 accuracy_tied + .30 accuracy_ref + .20 P(c_tied > d_tied) + .20 P(m > d_tied)
            + .01 mean(tanh(m / d_tied - 1))

where the last three are over prompts that have both. As in the authors' code, 0/0 counts as 0 in the last term.

Authors' rule: a rating that failed is left out of the choice of the best; where all failed, 1/4 counts. In Ties it is
-1, below the ratings 1 to 10; where rewards go lower, it is as low as the lowest of its prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import comb, copysign, inf, isnan, nan, tanh
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING

from flip_reward.data.hub import HubName
from flip_reward.data.rows import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, RowModel, match_subset, read_row
from flip_reward.evaluation.benchmarks.rules import AUTHORS, find_only_subset, mark_headline
from flip_reward.evaluation.grading import Figure, Grade, Grades, ItemRewards, Protocol, grade_best
from flip_reward.evaluation.statistics import Estimate, estimate_combination

if TYPE_CHECKING:
    from flip_reward.evaluation.statistics import Values

HUB = HubName("allenai/reward-bench-2", split="test")
TIES = "Ties"
FOUR_SUBSETS = ("Factuality", "Precise IF", "Math", "Focus")
"""What the FLIP paper reports (arXiv 2602.13551): all but Safety and Ties."""
SUBSETS = (*FOUR_SUBSETS, "Safety", TIES)


class RewardBench2Row(RowModel):
    """The columns that count. The chosen responses are the correct ones."""

    id: str
    subset: str
    prompt: str
    chosen: list[str]
    rejected: list[str]


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row, or raise a DataError that says why not."""
    fields = read_row(RewardBench2Row, row)
    subset = match_subset("RewardBench 2", fields.subset, SUBSETS)
    return BenchmarkItem.of(fields.id, subset, fields.prompt, fields.chosen, fields.rejected)


SIX, FOUR, TIES_SCORE = "average of six subsets", "average of four subsets", "Ties score"


class RewardBench2Protocol(Protocol):
    """The best-rewarded of four responses must be the chosen one; a tie of k at the top counts 1/k.

    In the subset Ties every correct response must be above every incorrect one. Fractionally, correct and incorrect
    responses tied where the two meet count as if a fair draw ordered them.
    """

    name = "rewardbench2"
    needs = MappingProxyType({SIX: SUBSETS, FOUR: FOUR_SUBSETS})

    def unit(self, item: BenchmarkItem) -> str:
        """Return the number that both prompts of a pair in Ties have."""
        return _split_id(item.id)[1] if item.subset == TIES else item.id

    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:
        """Grade the choice of the best response or, in Ties, the separation of the correct ones."""
        if item.subset != TIES:
            return grade_best(item.chosen, rewards)
        correct, incorrect = _split(item, rewards)
        lowest, highest = min(correct), max(incorrect)
        if lowest != highest:
            return Grade(float(lowest > highest), float(lowest > highest))
        tied = correct.count(lowest)
        return Grade(0.0, 1 / comb(tied + incorrect.count(highest), tied))

    def chance(self, item: BenchmarkItem) -> float:
        """Return 1 in 4 for one of four, and for Ties the chance that a random order separates them."""
        good = sum(item.chosen)
        return 1 / comb(len(item.chosen), good) if item.subset == TIES else good / len(item.chosen)

    def figures(self, grades: Grades) -> list[Figure]:
        """Return the Ties score, the leaderboard's average of six and the FLIP paper's of four, by both rules."""
        parts, rated = grades.by_parts(), grades.average(_grade_as_authors)
        runs = [[_rate_unscored(rewards) for rewards in run] for run in grades.runs]
        figures = [
            *self._by_rule(grades, grades.fractional, grades.runs, ""),
            *self._by_rule(parts, rated, runs, AUTHORS),
        ]
        alone = [TIES_SCORE if name == TIES else name for name in find_only_subset(grades)]
        if alone and TIES_SCORE not in alone:
            figures.append(Figure(alone[0] + AUTHORS, parts.mean(rated), f"Accuracy.{_AUTHORS_NOTE}"))
        return mark_headline(figures, *(name + AUTHORS for name in (SIX, FOUR, *alone)))

    def _by_rule(
        self, grades: Grades, values: Values, runs: Sequence[Sequence[ItemRewards]], rule: str
    ) -> list[Figure]:
        figures = []
        note = _AUTHORS_NOTE if rule else ""
        ties = _collect_ties(grades.items, runs)
        if ties is not None and TIES in grades.answered():
            score = score_ties(grades.items, runs)
            figures.append(Figure(TIES_SCORE + rule, score, _AUTHORS_TIES_NOTE if rule else _TIES_NOTE))
            if self.has_all(SIX, grades):
                figures.append(Figure(SIX + rule, _average_six(grades, values, ties), _SIX_NOTE + note))
        if self.has_all(FOUR, grades):
            estimate = grades.mean_of_subsets(values, FOUR_SUBSETS)
            figures.append(Figure(FOUR + rule, estimate, _FOUR_NOTE + note))
        return figures


def _grade_as_authors(item: BenchmarkItem, rewards: ItemRewards) -> float:
    """The share of chosen ones among the best-rated; without any rating, among all."""
    highest = max((value for value in rewards.values if value is not None), default=None)
    at_top = [good for good, value in zip(item.chosen, rewards.values, strict=True) if value == highest]
    return sum(at_top) / len(at_top)


def _rate_unscored(rewards: ItemRewards) -> ItemRewards:
    lowest = min([_FAILED_RATING, *(value for value in rewards.values if value is not None)])
    return replace(rewards, values=tuple(lowest if value is None else value for value in rewards.values))


_FAILED_RATING = -1.0
_AUTHORS_NOTE = " A response without a rating is left out."
_AUTHORS_TIES_NOTE = "The authors' weighted score of accuracy and margins; a response without a rating has -1."
_TIES_NOTE = "The authors' weighted score of accuracy and margins; an unscored prompt earns nothing in any part."
_SIX_NOTE = "Unweighted mean of the subsets' accuracies and the Ties score, as on the leaderboard."
_FOUR_NOTE = "Unweighted mean of Factuality, Precise IF, Math and Focus, as in the FLIP paper."


def _average_six(grades: Grades, values: Values, ties: _Ties) -> Estimate | None:
    others = [name for name in SUBSETS if name != TIES]
    if not grades.answered(others).issuperset(others):
        return None
    places = [place for place, subset in enumerate(grades.subsets) if subset in others]
    weights = {**dict.fromkeys(others, 1.0), **_WEIGHT_OF_PART}
    return estimate_combination(
        [*values[places].tolist(), *ties.values],
        [*(grades.subsets[place] for place in places), *ties.parts],
        {name: weight / len(SUBSETS) for name, weight in weights.items()},
        [*(grades.clusters[place] for place in places), *ties.prompts],
        items=len(grades.items),
    )


def _split(item: BenchmarkItem, rewards: Sequence[float]) -> tuple[list[float], list[float]]:
    """The rewards of correct and of incorrect responses."""
    correct, incorrect = (
        [reward for reward, good in zip(rewards, item.chosen, strict=True) if good == wanted]
        for wanted in (True, False)
    )
    return correct, incorrect


def score_ties(items: Sequence[BenchmarkItem], runs: Sequence[Sequence[ItemRewards]]) -> Estimate | None:
    """Compute the Ties score, 0 to 1.01, with prompts drawn with both halves; None where `_collect_ties` has None."""
    ties = _collect_ties(items, runs)
    if ties is None:
        return None
    size = sum(item.subset == TIES for item in items)
    return estimate_combination(ties.values, ties.parts, _WEIGHT_OF_PART, ties.prompts, items=size)


@dataclass(frozen=True, slots=True)
class _Ties:
    """The terms of the Ties score, one after the other, each the mean over the runs."""

    values: list[float]
    parts: list[str]
    """Which part of the score each adds to."""
    prompts: list[str]
    """Which prompt, with both of its halves, each is of."""


def _collect_ties(items: Sequence[BenchmarkItem], runs: Sequence[Sequence[ItemRewards]]) -> _Ties | None:
    """Collect the terms; None unless there are prompts of both kinds and at least one with both halves."""
    collected: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for prompt, terms in enumerate(collect_terms(items, run)):
            for part, value in asdict(terms).items():
                if not isnan(value):
                    collected.setdefault((part, f"{TIES} {prompt}"), []).append(value)
    parts = [part for part, _ in collected]
    if not set(parts).issuperset(_WEIGHT_OF_PART):
        return None
    return _Ties([fmean(values) for values in collected.values()], parts, [prompt for _, prompt in collected])


@dataclass(frozen=True, slots=True)
class Margins:
    """The two margins of one prompt.

    Attributes:
        between: c, from the lowest correct to the highest incorrect reward; minus infinity when unscored.
        within: d, among the correct ones.
    """

    between: float
    within: float

    @classmethod
    def of(cls, item: BenchmarkItem, rewards: ItemRewards) -> Margins:
        """Measure a prompt."""
        values = rewards.scored
        if values is None:
            return cls(-inf, 0.0)
        correct, incorrect = _split(item, values)
        return cls(min(correct) - max(incorrect), max(correct) - min(correct))


@dataclass(frozen=True, slots=True)
class TieTerms:
    """What a prompt adds to the parts of the score; NaN where a part does not concern it.

    Attributes:
        tied_accurate: 1 or 0.
        ref_accurate: 1 or 0.
        preferred: c_tied > d_tied.
        preferred_hard: m > d_tied.
        margin: tanh(m / d_tied - 1).
    """

    tied_accurate: float = nan
    ref_accurate: float = nan
    preferred: float = nan
    preferred_hard: float = nan
    margin: float = nan

    @classmethod
    def of(cls, ref: Margins | None, tied: Margins | None) -> TieTerms:
        """Compute the terms of a prompt; one half of it may be missing."""
        tied_accurate = nan if tied is None else float(tied.between > 0)
        ref_accurate = nan if ref is None else float(ref.between > 0)
        if ref is None or tied is None:
            return cls(tied_accurate, ref_accurate)
        lower = min(ref.between, tied.between)
        return cls(
            tied_accurate,
            ref_accurate,
            float(tied.between > tied.within),
            float(lower > tied.within),
            _margin_term(lower, tied.within),
        )


def _margin_term(lower: float, within: float) -> float:
    if lower == -inf:  # unscored: nothing is earned, and nothing lost
        return 0.0
    if within == 0:
        return 0.0 if lower == 0 else copysign(1.0, lower)
    return tanh(lower / within - 1)


WEIGHTS = (0.30, 0.30, 0.20, 0.20, 0.01)
"""Of the fields of `TieTerms`."""
_WEIGHT_OF_PART = dict(zip(TieTerms.__match_args__, WEIGHTS, strict=True))


def _split_id(item_id: str) -> tuple[str, str]:
    """Which half of which prompt of Ties an item is."""
    found = re.fullmatch(r"(ref|tied):(.+)", item_id)
    return (found[1], found[2]) if found else ("tied", item_id)


def collect_terms(items: Sequence[BenchmarkItem], run: Sequence[ItemRewards]) -> list[TieTerms]:
    """Compute the terms of every prompt of the subset Ties in one run, in the order of the prompts' numbers."""
    halves: dict[str, dict[str, Margins]] = {}
    for item, rewards in zip(items, run, strict=True):
        if item.subset == TIES:
            kind, number = _split_id(item.id)
            halves.setdefault(number, {})[kind] = Margins.of(item, rewards)
    return [TieTerms.of(half.get("ref"), half.get("tied")) for _, half in sorted(halves.items())]
