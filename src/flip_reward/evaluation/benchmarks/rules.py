"""How benchmarks' authors count what has no reward or no verdict, for figures that meet published numbers.

A figure by an authors' rule stands beside ours under its name with `AUTHORS` at its end. The two differ only where
something is unscored or tied.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.grading import Figure, Grades, ItemRewards

AUTHORS = ", authors' rule"


def win_strictly(item: BenchmarkItem, rewards: ItemRewards) -> float:
    """Return 1 where a chosen response has a reward above all rejected ones, else 0.

    One without a reward is below all others, and two without one are a tie, which is no win.
    """
    values = [-inf if value is None else value for value in rewards.values]
    best = {wanted: max(value for value, good in zip(values, item.chosen, strict=True) if good is wanted)
            for wanted in (True, False)}  # fmt: skip
    return float(best[True] > best[False])


def average_verdicts(item: BenchmarkItem, rewards: ItemRewards, *, missing: float) -> float | None:
    """Return the share of a judge's verdicts that are right, each order by itself.

    A missing verdict counts `missing`, also where the judge was not asked since a response has no answer. None for a
    reward that does not compare.
    """
    if not rewards.judgements:
        return missing if rewards.compared else None
    counts = [
        missing if judgement.chosen is None else float(item.chosen[judgement.chosen])
        for judgement in rewards.judgements
    ]
    return sum(counts) / len(counts)


def find_only_subset(grades: Grades) -> tuple[str, ...]:
    """Return the only subset that is there; none where there are several."""
    names = tuple(dict.fromkeys(grades.subsets))
    return names if len(names) == 1 else ()


def mark_headline(figures: list[Figure], *names: str) -> list[Figure]:
    """Mark as the headline the first of `names` that is among the figures."""
    present = {figure.name for figure in figures}
    headline = next((name for name in names if name in present), None)
    return [replace(figure, headline=figure.name == headline) for figure in figures]
