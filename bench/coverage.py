"""How often 95 % intervals hold the truth, and how often two rewards are told apart.

Benchmarks are drawn again and again from a distribution whose mean is known. "40x5, 0.8" are 40 prompts of 5 items,
an accuracy of 0.8, and a correlation of 0.35 between grades of a prompt; strata are subsets of different difficulty,
and ninths are grades as RM-Bench gives them. Beside ours stands what takes every item for itself: the percentile
bootstrap over items within strata, and McNemar's exact test of the items. The ratio is how many times fewer intervals
miss and equal rewards are told apart or, in the last three lines, how many times more of the unequal ones are.

Run `python bench/coverage.py`, which takes some minutes; `--json` prints one object a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from figures import Figure, report
from flip_reward.evaluation.paired import compare_differences
from flip_reward.evaluation.statistics import Quantity, estimate_mean

Grades: TypeAlias = NDArray[np.float64]
"""Prompts x items."""
Draw: TypeAlias = Callable[[np.random.Generator], Grades]

REPEATS = 2_000
PAIRED_REPEATS = 4_000
RESAMPLES = 1_000
CORRELATION = 0.35
LEVEL = 0.05


def main() -> Iterator[Figure]:
    for case in list_cases():
        generator = np.random.default_rng(1)
        held = [case.try_intervals(generator) for _ in range(REPEATS)]
        ours, naive = (round(100 * sum(column) / REPEATS, 2) for column in zip(*held, strict=True))
        ratio = round((100 - naive) / max(100 - ours, 100 / REPEATS), 2)
        yield Figure(f"coverage, {case.name}", ours, "%", naive, ratio, "percentile bootstrap over items")
    for pair in list_pairs():
        generator = np.random.default_rng(2)
        found = [try_tests(pair.one(generator) - pair.other(generator)) for _ in range(PAIRED_REPEATS)]
        ours, naive = (round(100 * sum(column) / PAIRED_REPEATS, 2) for column in zip(*found, strict=True))
        ratio = round(naive / ours if pair.equal else ours / naive, 2)
        yield Figure(f"told apart, {pair.name}", ours, "%", naive, ratio, "McNemar's test over items")


@dataclass(frozen=True, slots=True)
class Case:
    """Grades whose mean is known. Each row is a prompt or, where `by_row`, a subset."""

    name: str
    draw: Draw
    mean: float
    by_row: bool = False
    quantity: Quantity = Quantity.SHARE

    def try_intervals(self, generator: np.random.Generator) -> tuple[bool, bool]:
        """Draw grades once; say whether our interval holds the mean, and whether the naive one does."""
        grades = self.draw(generator)
        rows = np.repeat(np.arange(len(grades)), grades.shape[1])
        strata = [str(row) if self.by_row else "" for row in rows]
        prompts = None if self.by_row else rows.tolist()
        found = estimate_mean(grades.ravel(), strata, prompts, quantity=self.quantity)
        low, high = bootstrap(grades if self.by_row else grades.reshape(1, -1), generator)
        return found.low <= self.mean <= found.high, low <= self.mean <= high


def bootstrap(strata: Grades, generator: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of the mean; every item is drawn by itself."""
    means = np.zeros(RESAMPLES)
    for grades in strata:
        distinct, counts = np.unique(grades, return_counts=True)
        means += generator.multinomial(len(grades), counts / len(grades), RESAMPLES) @ distinct / strata.size
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return low - 1e-9, high + 1e-9


def try_tests(differences: Grades) -> tuple[bool, bool]:
    """Say whether our test tells two rewards apart, and whether McNemar's over items does."""
    rows = np.repeat(np.arange(len(differences)), differences.shape[1])
    up, down = int((differences > 0).sum()), int((differences < 0).sum())
    naive = binomtest(up, up + down).pvalue if up + down else 1.0
    return compare_differences(differences.ravel(), rows.tolist()).p < LEVEL, naive < LEVEL


def right_or_wrong(prompts: int, items: int, accuracy: float) -> Draw:
    """Grades of 0 or 1; those of a prompt are correlated."""
    weight = 1 / CORRELATION - 1

    def draw(generator: np.random.Generator) -> Grades:
        chances = generator.beta(accuracy * weight, (1 - accuracy) * weight, (prompts, 1)) if items > 1 else accuracy
        return (generator.random((prompts, items)) < chances).astype(np.float64)

    return draw


def ninths(prompts: int, items: int, accuracy: float) -> Draw:
    """Grades of nine comparisons, as in RM-Bench; items differ, and so do prompts."""

    def draw(generator: np.random.Generator) -> Grades:
        shared = generator.beta(accuracy * 4, (1 - accuracy) * 4, (prompts, 1))
        chances = generator.beta(shared * 6 + 1e-9, (1 - shared) * 6 + 1e-9, (prompts, items))
        return generator.binomial(9, chances) / 9

    return draw


def with_ties(items: int, accuracy: float) -> Draw:
    """Grades of 0, 1 and, in three of ten, 1/2."""

    def draw(generator: np.random.Generator) -> Grades:
        decided = generator.random((items, 1)) < (accuracy - 0.15) / 0.7
        return np.where(generator.random((items, 1)) < 0.3, 0.5, decided)

    return draw


def subsets(sizes: int, items: int, accuracy: float) -> Draw:
    """Grades of 0 or 1 in subsets of which some are easier."""
    chances = accuracy + np.linspace(-1, 1, sizes)[:, np.newaxis] * min(0.2, 1 - accuracy)
    return lambda generator: (generator.random((sizes, items)) < chances).astype(np.float64)


def list_cases() -> Iterator[Case]:
    accuracies = (0.5, 0.8, 0.95)
    for prompts, items in ((10, 1), (20, 1), (200, 1), (1000, 1), (40, 5), (30, 10)):
        for accuracy in accuracies:
            yield Case(f"{prompts}x{items}, {accuracy}", right_or_wrong(prompts, items, accuracy), accuracy)
    for strata, items in ((6, 5), (5, 2)):
        for accuracy in accuracies:
            draw = subsets(strata, items, accuracy)
            yield Case(f"{strata} strata x {items}, {accuracy}", draw, accuracy, by_row=True)
    for items in (20, 100):
        yield Case(f"ties, {items}x1, 0.6", with_ties(items, 0.6), 0.6)
    for prompts, items in ((20, 1), (100, 1), (30, 4)):
        yield Case(f"ninths, {prompts}x{items}, 0.7", ninths(prompts, items, 0.7), 0.7)
    for prompts, items, one, other in (
        (20, 1, 0.95, 0.8),
        (200, 1, 0.8, 0.65),
        (40, 5, 0.8, 0.65),
        (30, 10, 0.8, 0.65),
    ):
        draw = subtract(right_or_wrong(prompts, items, one), right_or_wrong(prompts, items, other))
        name = f"{one} - {other}, {prompts}x{items}"
        yield Case(name, draw, one - other, quantity=Quantity.DIFFERENCE)


def subtract(one: Draw, other: Draw) -> Draw:
    """Grades of one reward minus those of another."""
    return lambda generator: one(generator) - other(generator)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rewards' grades."""

    name: str
    one: Draw
    other: Draw
    equal: bool


def list_pairs() -> Iterator[Pair]:
    for prompts, items in ((20, 1), (200, 1), (1000, 1), (40, 5), (30, 10)):
        draw = right_or_wrong(prompts, items, 0.65)
        yield Pair(f"equal, {prompts}x{items}", draw, draw, equal=True)
    for prompts, items in ((100, 1), (30, 4)):
        draw = ninths(prompts, items, 0.65)
        yield Pair(f"equal, ninths, {prompts}x{items}", draw, draw, equal=True)
    for prompts, items in ((200, 1), (40, 5)):
        one, other = (right_or_wrong(prompts, items, accuracy) for accuracy in (0.65, 0.8))
        yield Pair(f"0.65 and 0.80, {prompts}x{items}", one, other, equal=False)
    yield Pair("0.65 and 0.75, ninths, 100x1", ninths(100, 1, 0.65), ninths(100, 1, 0.75), equal=False)


if __name__ == "__main__":
    report(main, "Coverage of intervals, and equal rewards told apart.")
