"""How certain a number is: intervals of means whose items may share a prompt, and a correction for many tests.

numpy and scipy are imported inside the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from importlib.util import find_spec
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

from flip_reward.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Codes = NDArray[np.intp]

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 20260213
"""Every interval has its own generator with this seed, so that the same scores give the same interval."""

_DIGITS = 12  # sums of the same grades differ in later digits by order, which would put a value outside its interval
_ENOUGH = 50  # clusters that matter: with fewer, bootstrap intervals are too narrow (bench/coverage.py)
_FEW_VALUES = 50
_BLOCK = 500  # resamples drawn at once, so that memory stays small
_MANY = 500


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval, from low to high. `n` is how many items it was computed from."""

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval; a single item cannot tell."""
        return self.n > 1 and (self.low > 0 or self.high < 0)


class Quantity(Enum):
    """What is averaged, which says how far items that were not drawn may lie away."""

    SHARE = auto()
    """Grades from 0 to 1."""
    DIFFERENCE = auto()
    """Of two such grades of the same item: as far down as up."""
    NUMBER = auto()
    """Anything, on a scale that is not known."""


def check_libraries() -> None:
    """Raise a MissingDependencyError where numpy or scipy is missing: before hours of scoring, not after."""
    if find_spec("scipy") is None:  # numpy comes with it
        raise MissingDependencyError("scipy", extra="eval")


def estimate_mean(
    values: Sequence[float] | Values,
    strata: Sequence[str],
    clusters: Iterable[Hashable] | None = None,
    *,
    quantity: Quantity = Quantity.SHARE,
) -> Estimate:
    """Estimate the mean of all items, at least one, each of which belongs to a stratum.

    Args:
        values: One for each item.
        strata: Which subset an item belongs to. The sizes of the subsets are the benchmark's choice and not chance,
            so only differences within them count.
        clusters: What items have in common that share a prompt; such items are drawn together, also where they
            belong to several strata. By default every item stands for itself.
        quantity: What the values are.

    Example:
        >>> alone = estimate_mean([1, 1, 0, 0] * 25, ["all"] * 100)
        >>> round(alone.low, 2), alone.value, round(alone.high, 2)
        (0.4, 0.5, 0.6)
        >>> together = estimate_mean([1, 1, 0, 0] * 25, ["all"] * 100, [item // 2 for item in range(100)])
        >>> round(together.low, 2), together.value, round(together.high, 2)
        (0.36, 0.5, 0.64)
    """
    sizes = Counter(strata)
    weights = {name: size / len(strata) for name, size in sizes.items()}
    return estimate_combination(values, strata, weights, clusters, quantity=quantity)


def estimate_mean_of_strata(
    values: Sequence[float] | Values, strata: Sequence[str], clusters: Iterable[Hashable] | None = None
) -> Estimate:
    """Estimate the unweighted mean of the strata's means; see `estimate_mean`."""
    names = dict.fromkeys(strata)
    return estimate_combination(values, strata, dict.fromkeys(names, 1 / len(names)), clusters)


def estimate_combination(
    values: Sequence[float] | Values,
    strata: Sequence[str],
    weights: Mapping[str, float],
    clusters: Iterable[Hashable] | None = None,
    *,
    quantity: Quantity = Quantity.SHARE,
    items: int | None = None,
) -> Estimate:
    """Estimate the weighted sum of the strata's means, with an interval as the docs of evaluation describe it.

    The interval is the percentile bootstrap over clusters (Efron and Tibshirani 1993, chapter 13) where at least 50
    clusters matter. With fewer, imaginary clusters are added: two of the highest and two of the lowest grade (Agresti
    and Coull 1998), or to a difference one each way, as far off as the farthest (Bonett and Price 2012). Numbers on
    an unknown scale have Student's interval, and that of a difference where all are the same.

    Args:
        values: See `estimate_mean`.
        strata: See `estimate_mean`.
        weights: Of each stratum.
        clusters: See `estimate_mean`.
        quantity: See `estimate_mean`.
        items: How many items the values are of, where that is not one each.

    Example:
        >>> both = {"a": 0.5, "b": 0.5}
        >>> found = estimate_combination([1, 1, 1, 0], ["a", "a", "a", "b"], both)
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (0.5, 0.0, 1.0)
    """
    import numpy as np

    sample = _Sample(
        np.asarray(values, dtype=np.float64),
        _number(strata),
        np.array([weights[name] for name in dict.fromkeys(strata)]),
        np.arange(len(strata)) if clusters is None else _number(clusters),
    )
    if _count_mattering(sample.moves) >= _ENOUGH:
        low, high = sample.bootstrap()
    elif quantity is Quantity.NUMBER and sample.moves.any():
        low, high = sample.reach_by_t()
    else:
        low, high = sample.reach_with_imaginary(quantity)
    if quantity is not Quantity.NUMBER:
        lowest, highest = sample.bounds(quantity)
        low, high = max(low, lowest), min(high, highest)
    value, low, high = np.round([sample.value, min(low, sample.value), max(high, sample.value)], _DIGITS)
    return Estimate(float(value), float(low), float(high), len(strata) if items is None else items)


def _number(names: Iterable[Hashable]) -> Codes:
    """Number names in the order in which they occur."""
    import numpy as np

    found: dict[Hashable, int] = {}
    return np.array([found.setdefault(name, len(found)) for name in names], dtype=np.intp)


class _Sample:
    """A weighted sum of the strata's means.

    Attributes:
        value: The sum.
        moves: How far each cluster moves it: the deviations of its items from the means of their strata, as far as
            each counts. The variance is the sum of their squares.
    """

    def __init__(self, values: Values, strata: Codes, weights: Values, clusters: Codes) -> None:
        import numpy as np

        self._values, self._strata, self._weights, self._clusters = values, strata, weights, clusters
        counts = np.bincount(strata)
        means = np.bincount(strata, values) / counts
        self.value = float(weights @ means)
        self._share = (weights / counts)[strata]
        width = int(clusters.max()) + 1
        self._sizes = np.bincount(np.unique(strata * width + clusters) // width)  # clusters of each stratum
        # Deviations from a mean that the cluster is part of are too small; the only cluster of a stratum has none,
        # and is measured from the mean of all.
        stretch = np.sqrt(self._sizes / np.maximum(self._sizes - 1, 1))
        centres = np.where(self._sizes > 1, means, self.value / weights.sum())
        apart = values - centres[strata]
        apart[np.abs(apart) < 10.0**-_DIGITS * np.abs(values).max()] = 0  # a mean of equal values is not quite theirs
        self.moves: Values = np.bincount(clusters, self._share * apart * stretch[strata]).astype(np.float64)

    def bounds(self, quantity: Quantity) -> tuple[float, float]:
        """The lowest and the highest value that there may be, 0 to 1 or -1 to 1 unless some values lie beyond."""
        import numpy as np

        highest = np.ones(len(self._weights))
        lowest = np.zeros(len(self._weights))
        if quantity is Quantity.DIFFERENCE:
            np.maximum.at(highest, self._strata, np.abs(self._values))
            lowest = -highest
        else:
            np.maximum.at(highest, self._strata, self._values)
            np.minimum.at(lowest, self._strata, self._values)
        return float(self._weights @ lowest), float(self._weights @ highest)

    def bootstrap(self) -> tuple[float, float]:
        """Draw clusters again, each stratum's for itself; and as one more those that span several or are alone."""
        import numpy as np

        first = np.full(len(self.moves), len(self._sizes))
        last = np.zeros(len(self.moves), dtype=np.intp)
        np.minimum.at(first, self._clusters, self._strata)
        np.maximum.at(last, self._clusters, self._strata)
        several = np.append(self._sizes > 1, False)
        drawn_with = np.where((first == last) & several[first], first, len(self._sizes))
        generator = np.random.default_rng(SEED)
        moved = np.zeros(RESAMPLES)
        for stratum in np.unique(drawn_with):
            moves = self.moves[drawn_with == stratum]
            moved += _resample_sum(moves, generator) - moves.sum()
        tail = (1 - CONFIDENCE) / 2
        low, high = self.value + np.quantile(moved, [tail, 1 - tail])
        return float(low), float(high)

    def reach_by_t(self) -> tuple[float, float]:
        """The interval of a mean of anything, by Student's t."""
        reach = _t(self._freedom) * sqrt(float(self.moves @ self.moves))
        return self.value - reach, self.value + reach

    def reach_with_imaginary(self, quantity: Quantity) -> tuple[float, float]:
        """The interval with a few clusters more at the ends, where none might have been seen."""
        import numpy as np

        shares: Values = np.bincount(self._clusters, self._share).astype(np.float64)
        variance = float(self.moves @ self.moves)
        if quantity is Quantity.SHARE:
            each, (low, high) = 2, self.bounds(quantity)
        else:
            each, means = 1, np.bincount(self._clusters, self._share * self._values) / shares
            high = float(np.abs(means).max() or quantity is Quantity.DIFFERENCE) * shares.sum()
            low = -high
        real, most = _count_equal(shares), _count_equal(self._share)
        if variance > 0:  # between clusters and items, by how little a cluster's items have in common
            worth = (self.value - low) * (high - self.value) / variance
            real = sqrt(real * min(max(worth, real), most))
        total = real + 2 * each
        centre = (real * self.value + each * (low + high)) / total
        squares = real * (real * variance + (self.value - centre) ** 2)
        squares += each * ((low - centre) ** 2 + (high - centre) ** 2)
        reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * sqrt(squares) / total
        reach *= _t(self._freedom) / _t(max(real, len(self.moves)) - 1)  # Korn and Graubard 1998: strata of few items
        return centre - reach, centre + reach

    @property
    def _freedom(self) -> float:
        """Degrees of freedom of the variance (Satterthwaite 1946): few where few clusters have much weight."""
        import numpy as np

        variances = self._weights**2 / self._sizes
        freedom = variances.sum() ** 2 / (variances**2 / np.maximum(self._sizes - 1, 1)).sum()
        return min(float(freedom), len(self.moves) - 1)


def _count_mattering(moves: Values) -> float:
    """How many clusters matter, their number over the kurtosis: of 1,000 grades, 50 of them wrong, about 50."""
    largest = abs(moves).max(initial=0.0)
    if largest == 0:
        return 0.0
    squares = (moves / largest) ** 2  # of tiny ones the fourth power would be 0
    return float(squares.sum() ** 2 / (squares @ squares))


def _count_equal(shares: Values) -> float:
    """How many of equal weight they are worth (Kish 1965)."""
    return float(shares.sum() ** 2 / (shares @ shares))


def _t(freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1.0), (1 + CONFIDENCE) / 2))


def _resample_sum(moves: Values, generator: np.random.Generator) -> Values:
    """Draw the sums of resamples.

    How often a cluster is drawn matters only through its move, so where few moves occur it is enough to draw how
    often each of them comes: the same distribution from three numbers a resample instead of thousands. The sum of
    many that matter is normal, to less than what the draws differ by (central limit theorem).
    """
    import numpy as np

    n = len(moves)
    largest = np.abs(moves).max() or 1.0
    distinct, counts = np.unique(np.round(moves / largest, _DIGITS), return_counts=True)
    if len(distinct) <= _FEW_VALUES:
        few: Values = generator.multinomial(n, counts / n, size=RESAMPLES) @ distinct * largest
        return few
    if _count_mattering(moves - moves.mean()) > _MANY:
        return generator.normal(moves.sum(), moves.std() * n**0.5, size=RESAMPLES)
    blocks = (generator.integers(n, size=(_BLOCK, n), dtype=np.int32) for _ in range(RESAMPLES // _BLOCK))
    return np.concatenate([moves[drawn].sum(axis=1) for drawn in blocks])


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for how many there are (Holm 1979): the chance of any false finding stays at the level."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
