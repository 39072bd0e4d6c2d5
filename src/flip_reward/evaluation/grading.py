"""`Protocol`: how the rewards of an item's responses become a grade, and grades a benchmark's own figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import TYPE_CHECKING

from flip_reward.core.judgement import Judgement
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.statistics import Estimate, estimate_mean, estimate_mean_of_strata

if TYPE_CHECKING:
    from flip_reward.evaluation.statistics import Values


@dataclass(frozen=True, slots=True)
class Grade:
    """How well an item was decided, 0 to 1, by two rules about ties.

    Attributes:
        strict: A tie is wrong.
        fractional: A tie among k counts as a throw of a fair die decides it: 1/k.
    """

    strict: float
    fractional: float


@dataclass(frozen=True, slots=True)
class ItemRewards:
    """What a reward said about an item in one run.

    Attributes:
        values: The reward of each response; None where it is unscored.
        judgements: The verdicts behind them, for judges that were shown several responses at once.
    """

    values: tuple[float | None, ...]
    judgements: tuple[Judgement, ...] = ()

    @property
    def scored(self) -> tuple[float, ...] | None:
        """The rewards when every response has one, else None: a group with an unscored response is unscored."""
        values = tuple(value for value in self.values if value is not None)
        return values if len(values) == len(self.values) else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a benchmark's authors report.

    Attributes:
        name: What it is.
        estimate: The number, with its interval.
        note: How it is computed, in a sentence.
    """

    name: str
    estimate: Estimate
    note: str


class Protocol(ABC):
    """The rules of a benchmark.

    Attributes:
        name: What it is called.
    """

    name: str

    @abstractmethod
    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:
        """Grade the rewards of an item's responses, all of which are scored."""

    @abstractmethod
    def chance(self, item: BenchmarkItem) -> float:
        """Return the expected grade of rewards drawn at random, 0 to 1."""

    def figures(self, graded: Graded) -> list[Figure]:  # noqa: ARG002 - for those that have some
        """Compute the figures that the benchmark's authors report; none by default."""
        return []


class Graded:
    """A reward's grades on a benchmark's items, as means over its runs.

    Args:
        protocol: The rules.
        items: What was asked.
        runs: For each run what the reward said about each item.
    """

    def __init__(
        self, protocol: Protocol, items: Sequence[BenchmarkItem], runs: Sequence[Sequence[ItemRewards]]
    ) -> None:
        self.protocol = protocol
        self.items = items
        self.runs = runs
        self.subsets = [item.subset for item in items]

    def average(self, measure: Callable[[BenchmarkItem, ItemRewards], float]) -> Values:
        """Measure every item in every run, and average over the runs that give a number (not NaN)."""
        import numpy as np

        values = np.array(
            [[measure(item, said) for item, said in zip(self.items, run, strict=True)] for run in self.runs]
        )
        known = ~np.isnan(values)
        counts = known.sum(axis=0)
        sums = np.where(known, values, 0.0).sum(axis=0)
        means: Values = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return means

    @cached_property
    def strict(self) -> Values:
        """Grades with ties and unscored items as wrong: no credit without a decision."""
        return self.average(lambda item, said: self._grade(item, said).strict if said.scored else 0.0)

    @cached_property
    def fractional(self) -> Values:
        """Grades with ties as 1/k and unscored items as chance: what a coin makes of every item not decided."""
        return self.average(
            lambda item, said: self._grade(item, said).fractional if said.scored else self.protocol.chance(item)
        )

    @cached_property
    def as_wrong(self) -> Values:
        """Grades with ties as 1/k and unscored items as wrong."""
        return self.average(lambda item, said: self._grade(item, said).fractional if said.scored else 0.0)

    @cached_property
    def excluded(self) -> Values:
        """Grades with ties as 1/k, and NaN where an item is unscored in every run."""
        return self.average(lambda item, said: self._grade(item, said).fractional if said.scored else float("nan"))

    @cached_property
    def unscored(self) -> Values:
        """The share of the runs in which an item is unscored."""
        return self.average(lambda _item, said: float(said.scored is None))

    def _grade(self, item: BenchmarkItem, said: ItemRewards) -> Grade:
        return self.protocol.grade(item, said.scored or ())

    def mean(self, values: Values, subsets: Collection[str] | None = None) -> Estimate:
        """Estimate the mean of all items, or of those in some subsets; every item that is not NaN counts the same."""
        return estimate_mean(*self.select(values, subsets))

    def mean_of_subsets(self, values: Values, subsets: Collection[str] | None = None) -> Estimate:
        """Estimate the mean of the subsets' means, of all or of some; every subset counts the same."""
        return estimate_mean_of_strata(*self.select(values, subsets))

    def select(self, values: Values, subsets: Collection[str] | None = None) -> tuple[list[float], list[str]]:
        """Return the values of all items, or of those in some subsets, and the subset of each; without NaN."""
        kept = [
            (float(value), subset)
            for value, subset in zip(values, self.subsets, strict=True)
            if (subsets is None or subset in subsets) and not isnan(value)
        ]
        return [value for value, _ in kept], [subset for _, subset in kept]


def grade_best(chosen: Sequence[bool], rewards: Sequence[float]) -> Grade:
    """Grade whether the response with the highest reward is a chosen one.

    Strictly, a chosen one must be above every rejected one. Fractionally, the share of chosen ones among those at the
    top counts, which is 1/k for one chosen response tied with k - 1 others (RewardBench 2).

    Example:
        >>> grade_best([True, False, False, False], [0.5, 0.5, 0.2, 0.1])
        Grade(strict=0.0, fractional=0.5)
    """
    highest = max(rewards)
    at_top = [good for good, reward in zip(chosen, rewards, strict=True) if reward == highest]
    return Grade(float(all(at_top)), sum(at_top) / len(at_top))
