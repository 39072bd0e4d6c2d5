"""RewardBench 2 (Malik et al. 2025, arXiv 2506.01937): allenai/reward-bench-2 on the hub, split "test", 1,865 rows.

Six subsets: Factuality, Precise IF, Math, Safety, Focus (one chosen and three rejected responses each) and Ties
(several of both). In Ties the id tells which rows belong together: "ref:3" asks for one correct answer, "tied:3" for
any of several. A row, with texts of our own:

    {"id": "tied:3", "subset": "Ties", "prompt": "Name a primary colour.",
     "chosen": ["Red.", "Blue.", "Yellow."], "rejected": ["Brown.", "Stone.", "Seven."],
     "num_correct": 3, "num_incorrect": 3, "total_completions": 6, "models": ["..."], "additional_metadata": {...}}

RewardBench 2: best of four, and a formula of its own for the subset Ties (arXiv 2506.01937, appendix).

RewardBench 2's subset Ties: are correct responses above incorrect ones, by more than they differ themselves?

Prompts come in twos. "ref:3" has one correct response, "tied:3" several. With the rewards of a prompt's responses,

    c = min(correct) - max(incorrect)       accurate if c > 0
    d = max(correct) - min(correct)
    m = min(c_ref, c_tied)

    score = .30 accuracy_tied + .30 accuracy_ref + .20 P(c_tied > d_tied) + .20 P(m > d_tied)
            + .01 mean(tanh(m / d_tied - 1))

where the last three are over prompts that have both. As in the authors' code, 0/0 counts as 0 in the last term.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from math import comb
from typing import TYPE_CHECKING

from flip_reward.data.hub import HubName
from flip_reward.data.rows import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, RowModel, read_row
from flip_reward.evaluation.grading import Figure, Grade, Graded, ItemRewards, Protocol, grade_best
from flip_reward.evaluation.statistics import RESAMPLES, SEED, Estimate, interval_of, resample_stratum_means

if TYPE_CHECKING:
    from flip_reward.evaluation.statistics import Values


HUB = HubName("allenai/reward-bench-2", split="test")
TIES = "Ties"


class RewardBench2Row(RowModel):
    """The columns that count. The chosen responses are the correct ones."""

    id: str
    subset: str
    prompt: str
    chosen: list[str]
    rejected: list[str]


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row.

    Raises:
        DataError: The row cannot be used.
    """
    fields = read_row(RewardBench2Row, row)
    subset = TIES if fields.subset.lower() == TIES.lower() else fields.subset
    return BenchmarkItem.of(fields.id, subset, fields.prompt, fields.chosen, fields.rejected)


WEIGHTS = (0.30, 0.30, 0.20, 0.20, 0.01)
"""Of the fields of `TieTerms`."""

_NOTHING = float("nan")


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
    def of(cls, item: BenchmarkItem, said: ItemRewards) -> Margins:
        """Measure a prompt."""
        if said.scored is None:
            return cls(-math.inf, 0.0)
        correct = [reward for reward, good in zip(said.scored, item.chosen, strict=True) if good]
        incorrect = [reward for reward, good in zip(said.scored, item.chosen, strict=True) if not good]
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

    tied_accurate: float = _NOTHING
    ref_accurate: float = _NOTHING
    preferred: float = _NOTHING
    preferred_hard: float = _NOTHING
    margin: float = _NOTHING

    @classmethod
    def of(cls, ref: Margins | None, tied: Margins | None) -> TieTerms:
        """Compute the terms of a prompt, of which one half may be missing."""
        tied_accurate = _NOTHING if tied is None else float(tied.between > 0)
        ref_accurate = _NOTHING if ref is None else float(ref.between > 0)
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
    if lower == -math.inf:  # unscored: nothing is earned, and nothing lost
        return 0.0
    if within == 0:
        return 0.0 if lower == 0 else math.copysign(1.0, lower)
    return math.tanh(lower / within - 1)


def collect_terms(items: Sequence[BenchmarkItem], run: Sequence[ItemRewards]) -> list[TieTerms]:
    """Compute the terms of every prompt of the subset Ties in one run, in the order of the prompts' numbers."""
    halves: dict[str, dict[str, Margins]] = {}
    for item, said in zip(items, run, strict=True):
        if item.subset == TIES:
            found = re.fullmatch(r"(ref|tied):(.+)", item.id)
            kind, number = (found[1], found[2]) if found else ("tied", item.id)
            halves.setdefault(number, {})[kind] = Margins.of(item, said)
    return [TieTerms.of(half.get("ref"), half.get("tied")) for _, half in sorted(halves.items())]


@dataclass(frozen=True, slots=True)
class TiesScore:
    """The score, and what it becomes when prompts are drawn again.

    Attributes:
        value: The score, 0 to 1.01.
        resampled: The score of each resample.
        items: How many items are behind it.
    """

    value: float
    resampled: Values
    items: int


def score_ties(items: Sequence[BenchmarkItem], runs: Sequence[Sequence[ItemRewards]]) -> TiesScore | None:
    """Compute the Ties score, over the mean of the runs' terms.

    Returns:
        None unless there are both kinds of prompts and one that has both halves.
    """
    import numpy as np

    terms = np.array([[astuple(term) for term in collect_terms(items, run)] for run in runs])
    if not terms.size:
        return None
    terms = terms.mean(axis=0)
    if np.isnan(terms).all(axis=0).any():
        return None
    generator = np.random.default_rng(SEED)
    drawn = generator.integers(len(terms), size=(RESAMPLES, len(terms)))
    picked = terms[drawn]
    known = ~np.isnan(picked)
    means = np.where(known, picked, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    value = float(np.nanmean(terms, axis=0) @ WEIGHTS)
    return TiesScore(value, means @ WEIGHTS, sum(item.subset == TIES for item in items))


FOUR_SUBSETS = ("Factuality", "Precise IF", "Math", "Focus")
"""What the FLIP paper reports (arXiv 2602.13551): all but Safety and Ties."""
SUBSETS = (*FOUR_SUBSETS, "Safety", TIES)


class RewardBench2Protocol(Protocol):
    """The best-rewarded of four responses must be the chosen one; a tie of k at the top counts 1/k.

    In the subset Ties every correct response must be above every incorrect one. Fractionally, correct and incorrect
    responses tied where the two meet count as if a fair draw ordered them.
    """

    name = "rewardbench2"

    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:
        """Grade the choice of the best response or, in Ties, the separation of the correct ones."""
        if item.subset != TIES:
            return grade_best(item.chosen, rewards)
        correct = [reward for reward, good in zip(rewards, item.chosen, strict=True) if good]
        incorrect = [reward for reward, good in zip(rewards, item.chosen, strict=True) if not good]
        lowest, highest = min(correct), max(incorrect)
        if lowest != highest:
            return Grade(float(lowest > highest), float(lowest > highest))
        tied = correct.count(lowest)
        return Grade(0.0, 1 / comb(tied + incorrect.count(highest), tied))

    def chance(self, item: BenchmarkItem) -> float:
        """Return 1 in 4 for one of four, and for Ties the chance of a random order that separates them."""
        good = sum(item.chosen)
        return 1 / comb(len(item.chosen), good) if item.subset == TIES else good / len(item.chosen)

    def figures(self, graded: Graded) -> list[Figure]:
        """Return the Ties score, the leaderboard's average of six subsets, and the FLIP paper's of four."""
        present = set(graded.subsets)
        figures = []
        ties = score_ties(graded.items, graded.runs)
        if ties is not None:
            figures.append(Figure("Ties score", interval_of(ties.value, ties.resampled, ties.items), _TIES_NOTE))
            if present.issuperset(SUBSETS):
                figures.append(Figure("average of six subsets", _average_of_six(graded, ties), _SIX_NOTE))
        if present.issuperset(FOUR_SUBSETS):
            estimate = graded.mean_of_subsets(graded.fractional, FOUR_SUBSETS)
            figures.append(Figure("average of four subsets", estimate, _FOUR_NOTE))
        return figures


def _average_of_six(graded: Graded, ties: TiesScore) -> Estimate:
    others = [name for name in SUBSETS if name != TIES]
    five = graded.mean_of_subsets(graded.fractional, others).value
    values, strata = graded.select(graded.fractional, others)
    resampled = sum(resample_stratum_means(values, strata).values()) + ties.resampled
    return interval_of((five * len(others) + ties.value) / len(SUBSETS), resampled / len(SUBSETS), len(graded.items))


_TIES_NOTE = "The authors' weighted score of accuracy and margins; an unscored prompt earns nothing in any part."
_SIX_NOTE = "Unweighted mean of the subsets' accuracies and the Ties score, as on the leaderboard."
_FOUR_NOTE = "Unweighted mean of Factuality, Precise IF, Math and Focus, as in the FLIP paper."
