"""How the rewards of an item's responses become a grade, and the grades of all items an accuracy.

Every benchmark has a `Protocol`; `Grades` applies it to what a reward gave each item in each run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import starmap
from math import isnan, nan
from types import MappingProxyType
from typing import TYPE_CHECKING

from flip_reward.core.judgement import Judgement
from flip_reward.errors import list_some
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.layout import ItemLayout, grade_by_length
from flip_reward.evaluation.statistics import (
    Estimate,
    Quantity,
    estimate_combination,
    estimate_mean,
    estimate_mean_of_strata,
)

if TYPE_CHECKING:
    from flip_reward.evaluation.statistics import Values


_MOST_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Grade:
    """How well an item was decided, 0 to 1. Strictly, a tie is wrong; fractionally, a tie among k counts 1/k."""

    strict: float
    fractional: float


def grade_best(chosen: Sequence[bool], rewards: Sequence[float]) -> Grade:
    """Grade whether the response with the highest reward is a chosen one.

    Strictly, a chosen one must be above every rejected one. Fractionally, the share of chosen ones among those at the
    top counts, which is 1/k for one chosen response tied with k - 1 others (RewardBench 2).
    """
    highest = max(rewards)
    at_top = [good for good, reward in zip(chosen, rewards, strict=True) if reward == highest]
    return Grade(float(all(at_top)), sum(at_top) / len(at_top))


@dataclass(frozen=True, slots=True)
class ItemRewards:
    """What a reward gave the responses of an item in one run."""

    values: tuple[float | None, ...]
    """One for each response; None where it is unscored."""
    judgements: tuple[Judgement, ...] = ()
    """The verdicts behind them, for judges that are shown several responses at once."""
    compared: bool = False
    """Whether it is such a judge, which has no verdict at all where a response has no answer to compare."""

    @property
    def scored(self) -> list[float] | None:
        """The rewards when every response has one, else None: a group with an unscored response is unscored."""
        values = [value for value in self.values if value is not None]
        return values if len(values) == len(self.values) else None

    @property
    def any_known(self) -> bool:
        """Whether there is a reward of any response, or a verdict in any order."""
        verdicts = [judgement.chosen for judgement in self.judgements]
        return any(known is not None for known in (*self.values, *verdicts))


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a benchmark's authors report, and in a sentence how it is computed."""

    name: str
    estimate: Estimate | None
    """None where a subset that it needs has no verdict at all."""
    note: str
    headline: bool = False
    """It is the one that the authors compare models by."""


class Protocol(ABC):
    """The rules of a benchmark, known by their name."""

    name: str
    needs: Mapping[str, Collection[str]] = MappingProxyType({})
    """The figures that are made of several subsets, and which. Without all of them there is no such figure."""

    @abstractmethod
    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:
        """Grade the rewards of an item's responses, all of which are scored."""

    @abstractmethod
    def chance(self, item: BenchmarkItem) -> float:
        """Return the expected grade of rewards drawn at random, 0 to 1."""

    def figures(self, grades: Grades) -> list[Figure]:  # noqa: ARG002 - for those that have some
        """Compute the figures that the benchmark's authors report; none by default."""
        return []

    def has_all(self, figure: str, grades: Grades) -> bool:
        """Whether all subsets that a figure needs are there."""
        return set(grades.subsets).issuperset(self.needs[figure])

    def describe_missing(self, subsets: Collection[str]) -> str | None:
        """Say which figures are left out, and for want of which subsets; None where none is, or one subset is all."""
        lacking = {figure: [name for name in needed if name not in subsets] for figure, needed in self.needs.items()}
        figures = [figure for figure, names in lacking.items() if names]
        if not figures or len(subsets) == 1:
            return None
        missing = list(dict.fromkeys(name for names in lacking.values() for name in names))
        found = "subset" if len(missing) == 1 else "subsets"
        named = " and no ".join(map(repr, figures))
        return f"there is no {named} without the {found} {list_some(missing, _MOST_SHOWN)}"

    def unit(self, item: BenchmarkItem) -> str:
        """Return what the items have in common that a sample takes together; by default what their row says."""
        return item.unit or item.id


class Grades:
    """A reward's grades on a benchmark's items, each the mean over the reward's runs.

    Attributes:
        subsets: The subset of each item.
        clusters: A number for each item; items that share their prompt have the same, and count as one draw.
        strict: Ties and unscored items are wrong: no credit without a decision.
        fractional: Ties count 1/k and unscored items as chance: a coin decides what the reward does not.
        as_wrong: Ties count 1/k and unscored items are wrong.
        excluded: Ties count 1/k; NaN where an item is unscored in every run.
        unscored: The share of the runs in which an item is unscored.
        by_length: For each item the share of its pairs that are right, where the better response is longer and where
            it is shorter; NaN where it has no such pair. Ties and unscored items count one half.
    """

    def __init__(
        self,
        protocol: Protocol,
        items: Sequence[BenchmarkItem],
        runs: Sequence[Sequence[ItemRewards]],
        layout: ItemLayout | None = None,
    ) -> None:
        layout = layout or ItemLayout.of(items)
        self.protocol, self.items, self.runs = protocol, items, runs
        self.subsets = [item.subset for item in items]
        self.clusters = layout.clusters
        lengths = dict(zip([item.id for item in items], layout.lengths, strict=True))
        self.by_length = self.average(lambda item, rewards: grade_by_length(item, lengths[item.id], rewards.scored))
        self.strict, self.fractional, self.as_wrong, self.excluded, self.unscored = self.average(self._grade).T

    def _grade(self, item: BenchmarkItem, rewards: ItemRewards) -> tuple[float, float, float, float, float]:
        values = rewards.scored
        if values is None:
            return 0.0, self.protocol.chance(item), 0.0, nan, 1.0
        grade = self.protocol.grade(item, values)
        return grade.strict, grade.fractional, grade.fractional, grade.fractional, 0.0

    def average(self, measure: Callable[[BenchmarkItem, ItemRewards], float | tuple[float, ...]]) -> Values:
        """Measure every item in every run, and average over the runs that give a number (not NaN)."""
        import numpy as np

        values = np.array([list(starmap(measure, zip(self.items, run, strict=True))) for run in self.runs])
        known = ~np.isnan(values)
        counts = known.sum(axis=0)
        sums = np.where(known, values, 0.0).sum(axis=0)
        means: Values = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return means

    def by_parts(self) -> Grades:
        """Return the same where an item has a verdict as soon as one response or one order has: so authors count."""
        parts = copy(self)
        parts.excluded = self.average(lambda _item, rewards: 1.0 if rewards.any_known else nan)
        return parts

    def answered(self, subsets: Collection[str] | None = None) -> set[str]:
        """Return the subsets, of all or of some, with an item that is scored in any run; others have no verdict."""
        return set(self.select(self.excluded, subsets)[1])

    def mean(self, values: Values, subsets: Collection[str] | None = None) -> Estimate | None:
        """Estimate the mean of all items, or of those in some subsets; every item that is not NaN counts the same.

        None where none of them is scored: what never answered has no accuracy, whatever a rule counts unscored items
        as.
        """
        selected, strata = self.select(values, subsets)
        if not selected or not self.answered(subsets):
            return None
        return estimate_mean(selected, strata, self._select_clusters(values, subsets))

    def mean_of_subsets(self, values: Values, subsets: Collection[str] | None = None) -> Estimate | None:
        """Estimate the mean of the subsets' means, of all or of some; every subset counts the same.

        None where one of them has no verdict.
        """
        selected, strata = self.select(values, subsets)
        if not selected or not self.answered(subsets).issuperset(strata):
            return None
        return estimate_mean_of_strata(selected, strata, self._select_clusters(values, subsets))

    def weighted_mean(self, values: Values, weights: Mapping[str, float]) -> Estimate | None:
        """Estimate the sum of the subsets' means, each times its weight; None where one of them has no verdict."""
        selected, strata = self.select(values, weights)
        if not self.answered(weights).issuperset(weights):
            return None
        return estimate_combination(selected, strata, weights, self._select_clusters(values, weights))

    def length_balanced(self, subsets: Collection[str] | None = None) -> Estimate | None:
        """Estimate the mean of the accuracies where the better response is longer and where it is shorter.

        None where one of the two does not occur, and where no item is scored.
        """
        return self.balance_lengths(self.by_length, subsets) if self.answered(subsets) else None

    def balance_lengths(
        self, by_length: Values, subsets: Collection[str] | None = None, *, quantity: Quantity = Quantity.SHARE
    ) -> Estimate | None:
        """Estimate the mean of two means of `by_length`, or of its difference to another reward's."""
        import numpy as np

        wanted = np.array([subsets is None or subset in subsets for subset in self.subsets])
        item, side = np.nonzero(~np.isnan(by_length) & wanted[:, np.newaxis])
        if len(set(side.tolist())) < 2:
            return None
        return estimate_combination(
            by_length[item, side],
            [_SIDES[one] for one in side],
            dict.fromkeys(_SIDES, 0.5),
            np.array(self.clusters)[item].tolist(),
            quantity=quantity,
            items=len(set(item.tolist())),
        )

    def select(self, values: Values, subsets: Collection[str] | None = None) -> tuple[list[float], list[str]]:
        """Return the values of all items, or of those in some subsets, and the subset of each; without NaN."""
        selected: list[float] = []
        strata: list[str] = []
        for value, subset in zip(values.tolist(), self.subsets, strict=True):
            if (subsets is None or subset in subsets) and not isnan(value):
                selected.append(value)
                strata.append(subset)
        return selected, strata

    def _select_clusters(self, values: Values, subsets: Collection[str] | None) -> list[int]:
        """The clusters of what `select` returns."""
        return [
            cluster
            for value, subset, cluster in zip(values.tolist(), self.subsets, self.clusters, strict=True)
            if (subsets is None or subset in subsets) and not isnan(value)
        ]


_SIDES = ("longer", "shorter")
