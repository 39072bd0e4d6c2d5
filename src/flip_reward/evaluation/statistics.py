"""How sure a number is: bootstrap intervals, paired comparisons, and a correction for many of them.

numpy and scipy are imported by the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from flip_reward.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 20260213
"""Every interval draws from a generator of its own with this seed, so that the same scores give the same interval."""


_DIGITS = 12
"""Sums of the same grades differ in later digits by their order, which would put a value outside its own interval."""

_FEW_VALUES = 50
_BLOCK = 500
"""Resamples drawn at once, so that memory stays small."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval.

    Attributes:
        value: The number itself, over the items as they are.
        low: The lower end of the interval.
        high: The upper end.
        n: How many items are behind it.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


def check_libraries() -> None:
    """Find out before hours of scoring whether its results could be computed.

    Raises:
        MissingDependencyError: numpy or scipy is not installed.
    """
    if find_spec("scipy") is None:  # numpy comes with it
        raise MissingDependencyError("scipy", extra="eval")


def estimate_mean(values: Sequence[float] | Values, strata: Sequence[str]) -> Estimate:
    """Estimate the mean over all items.

    The interval is the percentile bootstrap over items (Efron and Tibshirani 1993, chapter 13), drawn within each
    stratum, since the sizes of the subsets are the benchmark's choice and not chance. Where every item has the same
    value the interval has no width, which says nothing about a few items: look at `n`.

    Args:
        values: One for each item, at least one item.
        strata: The subset of each item.

    Example:
        >>> estimate = estimate_mean([1, 1, 0, 1] * 25, ["a"] * 100)
        >>> estimate.value, round(estimate.low, 2), round(estimate.high, 2), estimate.n
        (0.75, 0.66, 0.83, 100)
    """
    return _estimate(values, strata, weigh_items=True)


def estimate_mean_of_strata(values: Sequence[float] | Values, strata: Sequence[str]) -> Estimate:
    """Estimate the unweighted mean of the strata's means, with an interval as in `estimate_mean`."""
    return _estimate(values, strata, weigh_items=False)


def _estimate(values: Sequence[float] | Values, strata: Sequence[str], *, weigh_items: bool) -> Estimate:
    import numpy as np

    parts = _split(values, strata)
    weights = {name: len(part) / len(strata) if weigh_items else 1 / len(parts) for name, part in parts.items()}
    value = float(np.mean(values if weigh_items else [part.mean() for part in parts.values()]))
    resampled = sum(weights[name] * means for name, means in resample_stratum_means(values, strata).items())
    return interval_of(value, np.asarray(resampled), len(strata))


def resample_stratum_means(values: Sequence[float] | Values, strata: Sequence[str]) -> dict[str, Values]:
    """Return the mean of each stratum in each of `RESAMPLES` resamples."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    return {name: _resample_means(part, generator) for name, part in _split(values, strata).items()}


def _split(values: Sequence[float] | Values, strata: Sequence[str]) -> dict[str, Values]:
    import numpy as np

    array, names = np.asarray(values, dtype=np.float64), np.asarray(strata)
    return {name: array[names == name] for name in dict.fromkeys(strata)}


def interval_of(value: float, resampled: Values, n: int) -> Estimate:
    """Return the percentile interval of a resampled number."""
    import numpy as np

    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    value, low, high = np.round([value, low, high], _DIGITS)
    return Estimate(float(value), float(low), float(high), n)


def _resample_means(values: Values, generator: np.random.Generator) -> Values:
    """Draw the means of resamples.

    Which item comes how often matters only through its value, so where few values occur it is enough to draw how
    often each of them comes: the same distribution, for three numbers a resample instead of thousands.
    """
    import numpy as np

    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW_VALUES:
        few: Values = generator.multinomial(n, counts / n, size=RESAMPLES) @ distinct / n
        return few
    blocks = (generator.integers(n, size=(_BLOCK, n), dtype=np.int32) for _ in range(RESAMPLES // _BLOCK))
    return np.concatenate([values[drawn].mean(axis=1) for drawn in blocks])


def mcnemar_p(a_right: Sequence[bool], b_right: Sequence[bool]) -> float:
    """Compute McNemar's exact p of two rewards' decisions on the same items, two-sided.

    The items on which one is right and the other wrong are compared with throws of a fair coin (McNemar 1947, in its
    exact binomial form). 1.0 when there are none.

    Example:
        >>> mcnemar_p([True] * 10 + [False] * 2, [False] * 8 + [True] * 4)
        0.109375
    """
    from scipy.stats import binomtest

    only_a = sum(a and not b for a, b in zip(a_right, b_right, strict=True))
    only_b = sum(b and not a for a, b in zip(a_right, b_right, strict=True))
    if not only_a + only_b:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for how many there are (Holm 1979). The chance of any false finding stays at the level.

    Example:
        >>> correct_holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
