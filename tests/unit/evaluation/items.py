"""Benchmark items and rewards made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flip_reward.core.judgement import Judgement
from flip_reward.core.score import Outcome
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_protocol
from flip_reward.evaluation.grading import Figure, Grades, ItemRewards
from flip_reward.evaluation.statistics import Estimate

Rewards = Sequence[float | None]


def item(name: str, subset: str = "all", chosen: int = 1, rejected: int = 1) -> BenchmarkItem:
    """An item whose responses are called after it."""
    return BenchmarkItem.of(
        name,
        subset,
        f"Do {name}.",
        [f"{name} good {index}" for index in range(chosen)],
        [f"{name} bad {index}" for index in range(rejected)],
    )


def turned(one: BenchmarkItem) -> BenchmarkItem:
    """The item with its rejected response as the chosen one; both stay where they are in length."""
    group = replace(one.group, responses=one.group.responses[::-1])
    return replace(one, group=group)


def said(*values: float | None, judgements: Sequence[Judgement] = ()) -> ItemRewards:
    return ItemRewards(values, tuple(judgements))


def verdict(shown: tuple[int, ...], chosen: int | None) -> Judgement:
    return Judgement(shown, Outcome.UNPARSEABLE_REPLY if chosen is None else Outcome.SCORED, chosen)


def grade(protocol: str, items: Sequence[BenchmarkItem], *runs: Sequence[ItemRewards]) -> Grades:
    return Grades(load_protocol(protocol), items, runs)


def known(estimate: Estimate | None) -> Estimate:
    """An estimate that has to be there."""
    assert estimate is not None
    return estimate


def figures(graded: Grades) -> dict[str, float]:
    """The figures that have a verdict."""
    found = {figure.name: figure.estimate for figure in graded.protocol.figures(graded)}
    return {name: round(estimate.value, 9) for name, estimate in found.items() if estimate is not None}


def figure(graded: Grades, name: str) -> Figure:
    return next(figure for figure in graded.protocol.figures(graded) if figure.name == name)


def headline(graded: Grades) -> str | None:
    """The name of the figure that the authors compare by."""
    names = [figure.name for figure in graded.protocol.figures(graded) if figure.headline]
    assert len(names) <= 1
    return names[0] if names else None
