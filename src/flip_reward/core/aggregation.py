"""Several inferences from one response -> one score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from statistics import fmean, median

from flip_reward.core.score import Outcome, Sample, Score


class Aggregation(StrEnum):
    """How the values of several samples become one."""

    MEAN = "mean"
    MAX = "max"
    MEDIAN = "median"
    """For an even number of samples the mean of the two in the middle."""


def aggregate(samples: Sequence[Sample], aggregation: Aggregation = Aggregation.MEAN) -> Score:
    """Make one score of the samples of one response.

    Samples without a value are left out, which the score's `detail` says; no value is lower for them. Texts,
    precision and recall are those of a typical sample: the one whose value is nearest to the score's, the first of
    equals. Without a single value the score is unscored with the most frequent outcome, the first of equals, and the
    first sample with that outcome is the typical one.

    Args:
        samples: At least one, in the order drawn.
        aggregation: How their values become one.

    Returns:
        A score without usage, attempts and time, which belong to the request. It holds the samples if there are
        several, and as `spread` the standard deviation of their values (division by their number).

    Raises:
        ValueError: There are no samples.

    Example:
        >>> samples = [Sample(value, Outcome.SCORED) for value in (0.25, 0.5, 0.75)]
        >>> score = aggregate([*samples, Sample(None, Outcome.TRUNCATED_REPLY)])
        >>> score.value, round(score.spread, 3), score.detail
        (0.5, 0.204, 'left out: 1 truncated_reply')
    """
    if not samples:
        raise ValueError("there are no samples to aggregate")
    scored = [(sample.value, sample) for sample in samples if sample.value is not None]
    if not scored:
        [(outcome, _)] = Counter(sample.outcome for sample in samples).most_common(1)
        return _score(None, next(sample for sample in samples if sample.outcome is outcome), samples)
    values = [value for value, _ in scored]
    value = _AGGREGATES[aggregation](values)
    _, typical = min(scored, key=lambda pair: abs(pair[0] - value))
    return _score(value, typical, samples, spread=_spread(values), detail=_describe_left_out(samples))


def _score(
    value: float | None,
    typical: Sample,
    samples: Sequence[Sample],
    *,
    spread: float | None = None,
    detail: str | None = None,
) -> Score:
    return Score(
        value,
        typical.outcome,
        precision=typical.precision,
        recall=typical.recall,
        inferred_instruction=typical.inferred_instruction,
        reasoning=typical.reasoning,
        raw_reply=typical.raw_reply,
        detail=detail,
        spread=spread,
        samples=tuple(samples) if len(samples) > 1 else (),
    )


def _mean(values: Sequence[float]) -> float:
    # Rounded twice, the mean of equal values may miss them by a hair.
    return min(max(fmean(values), min(values)), max(values))


_AGGREGATES: dict[Aggregation, Callable[[Sequence[float]], float]] = {
    Aggregation.MEAN: _mean,
    Aggregation.MAX: max,
    Aggregation.MEDIAN: median,
}


def _spread(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _describe_left_out(samples: Sequence[Sample]) -> str | None:
    causes = Counter(sample.outcome.value for sample in samples if sample.outcome is not Outcome.SCORED)
    return "left out: " + ", ".join(f"{count} {cause}" for cause, count in causes.items()) if causes else None
