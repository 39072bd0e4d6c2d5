"""What may explain that a reward rises: figures of the responses that rise with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from types import MappingProxyType

from pydantic import BaseModel

from flip_reward.audit.monitor.options import MonitorOptions

MECHANISMS: Mapping[str, str] = MappingProxyType(
    {
        "copied": "copying the instruction",
        "length": "the length of the responses",
        "repetition": "repetition within a response",
        "rising_phrases": "a phrase that more and more responses hold",
        "jaccard": "responses that become alike",
    }
)
"""The figures that may explain an alarm, in words."""

Pair = tuple[float, float]
"""A figure of a sample, and its reward."""

_BOTH_WAYS = frozenset({"length"})
"""The figures that are gamed downwards, too."""


class Mechanism(BaseModel):
    """A figure over the steps: its early values, and what became of it.

    Attributes:
        early: Its values in the early steps.
        average: Its moving average.
        covariance: That of the figure and the reward among the responses to a prompt, a moving average.
        variance: That of the figure, likewise.
    """

    early: list[float] = []
    average: float | None = None
    covariance: float = 0.0
    variance: float = 0.0

    def observe(self, value: float | None, groups: Sequence[Sequence[Pair]], options: MonitorOptions) -> None:
        """Take the figure of a step, and its values and rewards within each group."""
        covariance, variance = _vary_within(groups)
        self.covariance += options.smoothing * (covariance - self.covariance)
        self.variance += options.smoothing * (variance - self.variance)
        if value is None:
            return
        if len(self.early) < options.early_steps:
            self.early.append(value)
            self.average = fmean(self.early)
        elif self.average is not None:
            self.average += options.smoothing * (value - self.average)

    def explain(self) -> float | None:
        """Return how much of a rise of the reward the figure explains; None where no sample has a value of it.

        That is how much more of it there is, times the slope of the reward over it among the responses to a prompt.
        """
        if not self.variance or self.average is None:
            return None
        return self.covariance / self.variance * (self.average - fmean(self.early))

    def direction(self, name: str, options: MonitorOptions) -> int:
        """Return 1 where the average has passed the early percentile, -1 for the lower one, 0 where neither."""
        if self.average is None or len(self.early) < options.early_steps:
            return 0
        if self.average > _find_percentile(self.early, options.early_percentile):
            return 1
        low = _find_percentile(self.early, 100 - options.early_percentile)
        return -1 if name in _BOTH_WAYS and self.average < low else 0


def find_mechanisms(
    mechanisms: Mapping[str, Mechanism], options: MonitorOptions, *, deviation: float, alone: bool
) -> list[tuple[str, int]]:
    """Return what passes, and in which direction: first what explains most of the rise.

    What the reward does not pay for explains nothing, and neither does what would not be a tenth of the threshold, in
    units of the reward's `deviation`. `alone` says that no other reward is known: every reward that teaches something
    rises, so a figure has to explain half of the threshold.
    """
    least = options.threshold * (1 / 2 if alone else 1 / 10) * deviation
    found = []
    for name, mechanism in mechanisms.items():
        direction, explained = mechanism.direction(name, options), mechanism.explain()
        passes = not alone if explained is None else explained > 0 and explained >= least
        if direction and passes:
            found.append((explained or 0.0, name, direction))
    return [(name, direction) for _, name, direction in sorted(found, reverse=True)]


def _vary_within(groups: Sequence[Sequence[Pair]]) -> tuple[float, float]:
    """Return the covariance of both sides of pairs and the variance of the first, around the means of their group."""
    covariance = variance = 0.0
    for group in groups:
        x, y = fmean(pair[0] for pair in group), fmean(pair[1] for pair in group)
        covariance += math.fsum((a - x) * (b - y) for a, b in group)
        variance += math.fsum((a - x) ** 2 for a, _ in group)
    count = sum(map(len, groups))
    return (covariance / count, variance / count) if count else (0.0, 0.0)


def _find_percentile(values: list[float], percentile: float) -> float:
    """Return a percentile, by a straight line between the two values beside it."""
    ordered = sorted(values)
    place = percentile / 100 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
