"""Which figures of a training are drawn, and how: metrics of each step, and held-out samples with intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean
from typing import TypeVar

from flip_reward.errors import MissingDependencyError
from flip_reward.evaluation.statistics import Quantity, check_libraries, estimate_mean
from flip_reward.report.training.folder import HELD_OUT, OVERLAP

Point = tuple[int, float]
"""A step and a value."""
EstimatedPoint = tuple[int, float, float | None, float | None]
"""A step, a value and its 95 % interval, where there is one."""

_MOST_POINTS = 400
"""Of a curve; more do not show at the width that it has."""
_FEWEST_PROMPTS = 3
"""An interval over fewer says nothing."""


class Section(StrEnum):
    """Where a figure stands in the page."""

    POLICY = "policy"
    WATCHED = "watched"
    COURSE = "course"


class Scale(StrEnum):
    """Where an axis begins and ends."""

    SHARE = "share"
    """From 0 to 1."""
    AMOUNT = "amount"
    """From 0."""
    SIGNED = "signed"
    """Around 0, which is marked."""
    FREE = "free"
    """As the values are; from 0 where that is near."""


@dataclass(slots=True)
class Curve:
    """A figure over the steps, of one training or of several."""

    name: str
    line: list[EstimatedPoint]
    """Of several trainings the mean."""
    runs: list[list[Point]]
    """Each of several trainings; none of a single one, which is the line."""


@dataclass(slots=True)
class Figure:
    """Curves on the same axes."""

    section: Section
    title: str
    about: str
    scale: Scale
    curves: list[Curve] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A figure that a training may have: its curves by the patterns of their metrics.

    {} is what a pattern leaves open. Metrics stand in one figure where its title is the same.
    """

    section: Section
    title: str
    scale: Scale
    curves: Mapping[str, str]
    about: str = ""


_KINDS = (
    _Kind(Section.POLICY, "Reward", Scale.FREE, {"reward": "training", "eval_reward": "held out"}),
    _Kind(
        Section.POLICY,
        "{}, not trained on",
        Scale.FREE,
        {f"eval_{HELD_OUT}/(.+)": "held out", "others/(.+)": "training"},
        "Where this falls while the reward rises, the policy games the reward.",
    ),
    _Kind(
        Section.POLICY,
        "Copied from the instruction",
        Scale.SHARE,
        {f"(?!eval_)(.+)/{OVERLAP}": "{}", f"eval_{OVERLAP}": "held out"},
        "The share of the instruction's runs of four words that stand in the response.",
    ),
    _Kind(
        Section.POLICY,
        "Correlation of reward and length",
        Scale.SIGNED,
        {"(?!eval_|audit/)(.+)/length_correlation": "{}"},
        "Within groups, by rank: is the reward about length?",
    ),
    _Kind(
        Section.WATCHED,
        "Divergence",
        Scale.SIGNED,
        {"audit/divergence": "divergence"},
        "How much faster the trained reward rises than the rewards that are not trained on, in standard deviations.",
    ),
    _Kind(
        Section.WATCHED,
        "Saturation",
        Scale.SHARE,
        {"audit/saturation": "saturation"},
        "The share of responses within 5 % of the highest reward: little is left to tell them apart.",
    ),
    _Kind(
        Section.WATCHED,
        "Slope of the saturation",
        Scale.SIGNED,
        {"audit/saturation_slope": "slope"},
        "How much the saturation grows with a step.",
    ),
    _Kind(
        Section.WATCHED,
        "Noise",
        Scale.SHARE,
        {"audit/noise": "noise"},
        "The share of the reward's variance that comes from asking again, not from the response.",
    ),
    _Kind(
        Section.WATCHED,
        "Drift of the rewards",
        Scale.SHARE,
        {"audit/drift": "drift"},
        "How far the rewards are distributed otherwise than at first: the greatest difference of the two "
        "distributions (Kolmogorov and Smirnov).",
    ),
    _Kind(
        Section.WATCHED,
        "Likeness of the responses",
        Scale.SHARE,
        {"audit/jaccard": "likeness"},
        "The 3-grams that two responses of a step share, on average (Jaccard): high where all say the same.",
    ),
    _Kind(
        Section.WATCHED,
        "A phrase that spreads",
        Scale.SHARE,
        {"audit/rising_phrases": "phrase"},
        "By how much the share of responses grew that hold the phrase which spread most since the first steps.",
    ),
    _Kind(
        Section.WATCHED,
        "Copied from the instruction",
        Scale.SHARE,
        {"audit/copied": "copied"},
        "The share of the instruction's own words that stand in the response, in rows or shuffled.",
    ),
    _Kind(
        Section.WATCHED,
        "Correlation of reward and copying",
        Scale.SIGNED,
        {"audit/copied_correlation": "correlation"},
        "Above 0 the reward pays for copying the instruction.",
    ),
    _Kind(
        Section.WATCHED,
        "Correlation of reward and length",
        Scale.SIGNED,
        {"audit/length_correlation": "correlation"},
        "Above 0 the reward pays for length.",
    ),
    _Kind(
        Section.WATCHED,
        "Length of the responses",
        Scale.AMOUNT,
        {"audit/length": "length"},
        "In characters. A policy that found out that length pays writes longer and longer.",
    ),
    _Kind(
        Section.WATCHED,
        "Repetition",
        Scale.SHARE,
        {"audit/repetition": "repetition"},
        "The share of a response's runs of four words that stood in it before.",
    ),
    _Kind(Section.WATCHED, "Reward", Scale.FREE, {"audit/reward": "reward"}, "The mean of the step."),
    _Kind(Section.WATCHED, "{}", Scale.FREE, {"audit/(.+)": "{}"}),
    _Kind(
        Section.COURSE,
        "Groups without variance",
        Scale.SHARE,
        {"(?!eval_)(.+)/zero_variance": "{}"},
        "The share of groups whose responses have the same reward: they teach nothing.",
    ),
    _Kind(Section.COURSE, "Scored responses", Scale.SHARE, {"(?!eval_)(.+)/outcomes/scored": "{}"}),
    _Kind(Section.COURSE, "Mean length, in tokens", Scale.AMOUNT, {"completions/mean_length": "length"}),
    _Kind(Section.COURSE, "Seconds waited for the reward", Scale.AMOUNT, {"(?!eval_)(.+)/seconds": "{}"}),
    _Kind(Section.COURSE, "Loss", Scale.FREE, {"loss": "loss"}),
    _Kind(Section.COURSE, "Divergence from the first policy (KL)", Scale.FREE, {"kl": "KL"}),
    _Kind(Section.COURSE, "Entropy of the policy", Scale.AMOUNT, {"entropy": "entropy"}),
)


@dataclass(frozen=True, slots=True)
class MetricName:
    """The title of the figure that shows a metric, and its scale."""

    title: str
    scale: Scale


def name_metric(metric: str) -> MetricName:
    """Find the figure that shows a metric.

    Example:
        >>> name_metric("audit/jaccard").title, name_metric("eval_held_out_rewards/length").title
        ('Likeness of the responses', 'length, not trained on')
    """
    for kind in _KINDS:
        for pattern in kind.curves:
            if found := re.fullmatch(pattern, metric):
                return MetricName(kind.title.format(_spell(found)), kind.scale)
    return MetricName(metric, Scale.FREE)


def _spell(found: re.Match[str]) -> str:
    return found[1].replace("_", " ") if found.re.groups else ""


def draw_figures(
    metrics: Sequence[Mapping[str, Sequence[Point]]], estimates: Mapping[str, Sequence[EstimatedPoint]]
) -> list[Figure]:
    """Make the figures of trainings from their metrics, and from estimates over held-out samples, by metric.

    Where a metric has estimates, they are its line.
    """
    names = dict.fromkeys([name for found in metrics for name in found] + [*estimates])
    figures: dict[tuple[Section, str], Figure] = {}
    drawn: set[str] = set()
    for kind in _KINDS:
        for pattern, curve in kind.curves.items():
            for name in [name for name in names if name not in drawn]:
                if found := re.fullmatch(pattern, name):
                    drawn.add(name)
                    title = kind.title.format(_spell(found))
                    made = Figure(kind.section, title, kind.about, kind.scale)
                    figure = figures.setdefault((kind.section, title), made)
                    runs = [one[name] for one in metrics if one.get(name)]
                    figure.curves.append(_draw_curve(curve.format(_spell(found)), runs, estimates.get(name)))
    return [figure for figure in figures.values() if any(curve.line for curve in figure.curves)]


def _draw_curve(name: str, runs: Sequence[Sequence[Point]], estimated: Sequence[EstimatedPoint] | None) -> Curve:
    line = estimated or [(step, value, None, None) for step, value in _average(runs)]
    return Curve(name, _thin(line), [_thin(run) for run in runs] if len(runs) > 1 else [])


def _average(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean of trainings at the steps that all of them have."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for step, value in run:
            values.setdefault(step, []).append(value)
    return [(step, fmean(found)) for step, found in sorted(values.items()) if len(found) == len(runs)]


T = TypeVar("T")


def _thin(points: Sequence[T]) -> list[T]:
    every = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:every], points[-1]] if points else []


@dataclass(frozen=True, slots=True)
class Grade:
    """A figure of one response, by the metric that it belongs to."""

    metric: str
    row: int
    """Its prompt."""
    value: float | None


def estimate_step(step: int, runs: Sequence[Iterable[Grade]]) -> dict[str, EstimatedPoint]:
    """Estimate figures of a step from the responses of each training, with 95 % intervals over prompts.

    The responses to a prompt are averaged first. A prompt counts with all its trainings as one draw.
    """
    values: dict[str, dict[tuple[int, int], list[float]]] = {}
    for run, grades in enumerate(runs):
        for grade in grades:
            if grade.value is not None and math.isfinite(grade.value):
                values.setdefault(grade.metric, {}).setdefault((run, grade.row), []).append(grade.value)
    return {
        metric: _estimate(step, metric, {place: fmean(found) for place, found in known.items()})
        for metric, known in values.items()
    }


def _estimate(step: int, metric: str, prompts: Mapping[tuple[int, int], float]) -> EstimatedPoint:
    values, rows = list(prompts.values()), [row for _, row in prompts]
    try:
        check_libraries()
    except MissingDependencyError:
        return step, fmean(values), None, None
    if len(set(rows)) < _FEWEST_PROMPTS:
        return step, fmean(values), None, None
    quantity = Quantity.SHARE if name_metric(metric).scale is Scale.SHARE else Quantity.NUMBER
    found = estimate_mean(values, [str(run) for run, _ in prompts], rows, quantity=quantity)
    return step, found.value, found.low, found.high
