"""What the functions of a formula compute, from the values of a group's responses."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import TypeAlias

from flip_reward.core.score import Outcome, Score

Cell: TypeAlias = float | Score
"""The value of one response, or the score that says why it has none."""
Column: TypeAlias = Sequence[Cell]
"""The values of a group's responses, in order."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function or an operator.

    Attributes:
        name: As a formula spells it.
        least: The fewest arguments.
        most: The most arguments.
        each: Computes the value of one response.
        group: Computes the values of all responses that have one, at least two.
    """

    name: str
    least: int
    most: float
    each: Callable[..., float] | None = None
    group: Callable[[Sequence[float]], Sequence[float]] | None = None

    def compute(self, arguments: Sequence[Column]) -> list[Cell]:
        """Compute a column of those of the arguments."""
        if self.group is not None:
            return self._compare(arguments[0])
        return [self._compute_one(cells) for cells in zip(*arguments, strict=True)]

    def _compute_one(self, cells: Sequence[Cell]) -> Cell:
        if self.name == "default":
            first, second = cells
            return second if isinstance(first, Score) and not first.outcome.retryable else first
        failed = [cell for cell in cells if isinstance(cell, Score)]
        if failed:
            return next((cell for cell in failed if cell.outcome.retryable), failed[0])
        if self.each is None:
            raise ValueError(f"{self.name} computes no single value")
        try:
            return check_finite(self.each(*cells))
        except ZeroDivisionError:
            return _undefined("a division by zero")
        except OverflowError:
            return _undefined(_TOO_LARGE)

    def _compare(self, column: Column) -> list[Cell]:
        known = [cell for cell in column if not isinstance(cell, Score)]
        if len(known) < 2 or self.group is None:
            alone = Score(None, Outcome.NOTHING_TO_COMPARE, detail=f"no other response has a value for {self.name}")
            failed = (cell for cell in column if isinstance(cell, Score) and cell.outcome.retryable)
            reason = next(failed, alone)  # what may have a value another time is no lack of company
            return [cell if isinstance(cell, Score) else reason for cell in column]
        try:
            values = iter(self.group(known))
        except OverflowError:
            values = iter([math.inf] * len(known))
        return [cell if isinstance(cell, Score) else check_finite(next(values)) for cell in column]


def check_finite(value: float) -> Cell:
    """Return a number that may be a reward, without the sign of a zero, or a score that says that it is none."""
    return value + 0.0 if math.isfinite(value) else _undefined(_TOO_LARGE)


def _undefined(reason: str) -> Score:
    return Score(None, Outcome.UNDEFINED_VALUE, detail=reason)


_TOO_LARGE = "a number that is too large"


def _sum(*values: float) -> float:
    return math.fsum(values)


def _mean(*values: float) -> float:
    return fmean(values)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _gate(value: float, condition: float, otherwise: float | None = None) -> float:
    if condition > 0:
        return value
    return min(value, 0.0) if otherwise is None else otherwise


def standardize(values: Sequence[float]) -> list[float]:
    """Return how many standard deviations (division by their number) each value lies above the mean.

    Equal values are all 0.

    Example:
        >>> standardize([1.0, 3.0]), standardize([0.1, 0.1, 0.1])
        ([-1.0, 1.0], [0.0, 0.0, 0.0])
    """
    if min(values) == max(values):
        return [0.0] * len(values)
    mean = fmean(values)
    differences = [value - mean for value in values]
    scale = max(map(abs, differences))  # squares of very large or small values have no room in a float
    shares = [difference / scale for difference in differences]
    deviation = math.sqrt(math.fsum(share * share for share in shares) / len(shares))
    return [share / deviation for share in shares]


def rank(values: Sequence[float]) -> list[float]:
    """Return the share of the other values that each exceeds, where an equal one counts half.

    Example:
        >>> rank([0.2, 0.9, 0.2]), rank([5.0, 5.0])
        ([0.25, 1.0, 0.25], [0.5, 0.5])
    """
    ordered, others = sorted(values), len(values) - 1
    shares = []
    for value in values:
        below, upto = bisect_left(ordered, value), bisect_right(ordered, value)
        shares.append((below + (upto - below - 1) / 2) / others)
    return shares


OPERATORS = MappingProxyType(
    {
        one.name: one
        for one in (
            Function(">", 2, 2, lambda a, b: float(a > b)),
            Function(">=", 2, 2, lambda a, b: float(a >= b)),
            Function("<", 2, 2, lambda a, b: float(a < b)),
            Function("<=", 2, 2, lambda a, b: float(a <= b)),
            Function("+", 2, 2, lambda a, b: a + b),
            Function("-", 2, 2, lambda a, b: a - b),
            Function("*", 2, 2, lambda a, b: a * b),
            Function("/", 2, 2, lambda a, b: a / b),
        )
    }
)
NEGATIVE = Function("negative", 1, 1, lambda a: -a)
FUNCTIONS = MappingProxyType(
    {
        one.name: one
        for one in (
            Function("min", 2, math.inf, min),
            Function("max", 2, math.inf, max),
            Function("sum", 2, math.inf, _sum),
            Function("mean", 2, math.inf, _mean),
            Function("clip", 3, 3, _clip),
            Function("gate", 2, 3, _gate),
            Function("default", 2, 2),
            Function("z", 1, 1, group=standardize),
            Function("rank", 1, 1, group=rank),
        )
    }
)
"""The functions by their names in a formula."""
