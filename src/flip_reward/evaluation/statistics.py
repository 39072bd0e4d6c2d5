"""How certain a number is: bootstrap intervals, a test for paired decisions, and a correction for many tests.

numpy and scipy are imported inside the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

from collections import Counter
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
"""Every interval has its own generator with this seed, so that the same scores give the same interval."""

_DIGITS = 12  # sums of the same grades differ in later digits by order, which would put a value outside its interval
_FEW_VALUES = 50
_BLOCK = 500  # resamples drawn at once, so that memory stays small
_MANY = 20_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval, from low to high. `n` is how many items it was computed from."""

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


def check_libraries() -> None:
    """Raise a MissingDependencyError where numpy or scipy is missing: before hours of scoring, not after."""
    if find_spec("scipy") is None:  # numpy comes with it
        raise MissingDependencyError("scipy", extra="eval")


def estimate_mean(values: Sequence[float] | Values, strata: Sequence[str]) -> Estimate:
    """Estimate the mean of all items, at least one, each of which belongs to a stratum.

    The interval is the percentile bootstrap over items (Efron and Tibshirani 1993, chapter 13). Items are drawn
    within each stratum, because the sizes of the subsets are the benchmark's choice and not chance. Where every item
    has the same value the interval has no width, which says nothing about a few items: look at `n`.
    """
    import numpy as np

    parts = _split(values, strata)
    resampled = sum(len(parts[name]) / len(strata) * means for name, means in _resample(parts).items())
    return interval_of(float(np.mean(values)), np.asarray(resampled), len(strata))


def estimate_mean_of_strata(values: Sequence[float] | Values, strata: Sequence[str]) -> Estimate:
    """Estimate the unweighted mean of the strata's means, with an interval as in `estimate_mean`."""
    import numpy as np

    parts = _split(values, strata)
    resampled = sum(1 / len(parts) * means for means in _resample(parts).values())
    value = float(np.mean([part.mean() for part in parts.values()]))
    return interval_of(value, np.asarray(resampled), len(strata))


def resample_stratum_means(values: Sequence[float] | Values, strata: Sequence[str]) -> dict[str, Values]:
    """Return the mean of each stratum in each of `RESAMPLES` resamples."""
    return _resample(_split(values, strata))


def _split(values: Sequence[float] | Values, strata: Sequence[str]) -> dict[str, Values]:
    import numpy as np

    parts: dict[str, list[float]] = {}
    for value, stratum in zip(values, strata, strict=True):
        parts.setdefault(stratum, []).append(value)
    return {name: np.asarray(part, dtype=np.float64) for name, part in parts.items()}


def _resample(parts: dict[str, Values]) -> dict[str, Values]:
    import numpy as np

    generator = np.random.default_rng(SEED)
    return {name: _resample_mean(part, generator) for name, part in parts.items()}


def _resample_mean(values: Values, generator: np.random.Generator) -> Values:
    """Draw the means of resamples.

    How often an item is drawn matters only through its value, so where few values occur it is enough to draw how
    often each of them comes: the same distribution from three numbers a resample instead of thousands. The mean of
    very many is normal, whatever they are (central limit theorem), and drawing them one by one would take minutes.
    """
    import numpy as np

    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW_VALUES:
        few: Values = generator.multinomial(n, counts / n, size=RESAMPLES) @ distinct / n
        return few
    if n > _MANY:
        return generator.normal(values.mean(), values.std() / n**0.5, size=RESAMPLES)
    blocks = (generator.integers(n, size=(_BLOCK, n), dtype=np.int32) for _ in range(RESAMPLES // _BLOCK))
    return np.concatenate([values[drawn].mean(axis=1) for drawn in blocks])


def interval_of(value: float, resampled: Values, n: int) -> Estimate:
    """Return a number with the percentile interval of its resampled values."""
    import numpy as np

    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    value, low, high = np.round([value, low, high], _DIGITS)
    return Estimate(float(value), float(low), float(high), n)


def mcnemar_p(a_right: Sequence[bool], b_right: Sequence[bool]) -> float:
    """Return the two-sided p of McNemar's exact test for two rewards' decisions on the same items.

    The items on which one is right and the other wrong are compared with throws of a fair coin (McNemar 1947, in its
    exact binomial form). 1.0 when there are none.
    """
    from scipy.stats import binomtest

    decided = Counter(zip(a_right, b_right, strict=True))
    only_a, only_b = decided[True, False], decided[False, True]
    if not only_a + only_b:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for how many there are (Holm 1979): the chance of any false finding stays at the level."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
