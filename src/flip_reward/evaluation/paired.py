"""Rewards compared in pairs on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING

from flip_reward.evaluation.grading import Grades
from flip_reward.evaluation.results import ComparisonResult, Verdict
from flip_reward.evaluation.statistics import CONFIDENCE, Estimate, Quantity, correct_holm, estimate_mean

if TYPE_CHECKING:
    from flip_reward.evaluation.statistics import Values

MCNEMAR = "McNemar's exact test"
SIGN_FLIP = "sign-flip test"
_FINEST = 2**17  # places in which the sum of differences is told apart
_SMALLEST_P = 1e-12  # a Fourier transform knows no smaller one


@dataclass(frozen=True, slots=True)
class RewardGrades:
    """A reward's grades on a benchmark, with the names of both."""

    benchmark: str
    label: str
    grades: Grades


def compare_pairs(pairs: Sequence[tuple[RewardGrades, RewardGrades]]) -> list[ComparisonResult]:
    """Compare the rewards of each pair, which must have been asked about the same items.

    A pair in which one reward has no verdict at all is left out, also of the number of pairs: there is nothing to
    compare.

    A difference is an item's grade by one reward minus that by the other, so that the difficulty of an item cancels
    out. `compare_differences` tests it, and its p is corrected for the number of pairs (Holm).

    A reward is "better" only where the corrected p is below .05, and the strict and the fractional rule agree: where
    the winner depends on how ties and unscored items are counted, there is none.
    """
    pairs = [(a, b) for a, b in pairs if a.grades.answered() and b.grades.answered()]
    tests = [compare_differences(a.grades.fractional - b.grades.fractional, a.grades.clusters) for a, b in pairs]
    results = []
    for (a, b), test, corrected in zip(pairs, tests, correct_holm([test.p for test in tests]), strict=True):
        fractional, strict = (
            estimate_mean(values, a.grades.subsets, a.grades.clusters, quantity=Quantity.DIFFERENCE)
            for values in (a.grades.fractional - b.grades.fractional, a.grades.strict - b.grades.strict)
        )
        results.append(
            ComparisonResult(
                benchmark=a.benchmark,
                a=a.label,
                b=b.label,
                items=len(a.grades.items),
                difference=fractional,
                strict_difference=strict,
                length_balanced_difference=a.grades.balance_lengths(
                    a.grades.by_length - b.grades.by_length, quantity=Quantity.DIFFERENCE
                ),
                test=test.name,
                p=test.p,
                holm_p=corrected,
                verdict=_judge(fractional, strict, corrected),
            )
        )
    return results


def _judge(fractional: Estimate, strict: Estimate, corrected_p: float) -> Verdict:
    if corrected_p >= 1 - CONFIDENCE or fractional.value * strict.value <= 0:
        return "not told apart"
    return "a better" if fractional.value > 0 else "b better"


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A test of paired differences, and how often chance alone would give a sum as far from 0 (two-sided)."""

    name: str
    p: float


def compare_differences(differences: Sequence[float] | Values, clusters: Sequence[int]) -> PairedTest:
    """Test whether paired differences are 0 on average, by turning the signs of whole clusters at random.

    Were two rewards alike, their grades of a prompt could change places, and the sum of its differences its sign. The
    share of all such turns whose total is as far from 0 is the p (Fisher's randomisation test), so it is exact
    for any grades and any clusters. Where each item stands for itself and each difference is -1, 0 or 1, this is
    McNemar's exact test (1947).

    Example:
        >>> compare_differences([1, 1, 1, 1, 1, 0], range(6))
        PairedTest(name="McNemar's exact test", p=0.0625)
        >>> compare_differences([1, 1, 1, 1, 1, 0], [0, 0, 0, 1, 2, 3])
        PairedTest(name='sign-flip test', p=0.25)
    """
    import numpy as np
    from scipy.special import bdtr

    values = np.asarray(differences, dtype=np.float64)
    independent = len(set(clusters)) == len(clusters)
    sums: Values = values
    if not independent:
        sums = np.bincount(np.unique(clusters, return_inverse=True)[1], values).astype(np.float64)
    sums = sums[np.abs(sums) > 1e-9]
    if independent and np.isin(values, (-1, 0, 1)).all():
        fewer = min(int((sums > 0).sum()), int((sums < 0).sum()))
        return PairedTest(MCNEMAR, min(1.0, 2 * float(bdtr(fewer, len(sums), 0.5))) if len(sums) else 1.0)
    return PairedTest(SIGN_FLIP, _turn_signs(sums) if len(sums) else 1.0)


def _turn_signs(sums: Values) -> float:
    """Compute the share of all turns of signs whose total is as far from 0 as that of `sums`.

    The sums are made whole numbers, exactly where they are fractions of small ones, or else to one in 2^17 of their
    total. The distribution of the total is the transform of a product of cosines, one for each sum.
    """
    import numpy as np

    sizes = np.abs(sums)
    distinct, places, counts = np.unique(np.round(sizes, 9), return_inverse=True, return_counts=True)
    whole = np.round(distinct * _find_scale(distinct.tolist(), float(sizes.sum()))).astype(int)
    farthest = int(whole @ counts)
    length = 2 ** (2 * farthest + 1).bit_length()
    angles = 2 * np.pi * np.arange(length // 2 + 1) / length
    transform = np.ones(len(angles))
    for size, count in zip(whole, counts, strict=True):
        transform *= np.cos(size * angles) ** count
    shares = np.fft.irfft(transform, length)
    seen = abs(int((np.sign(sums) * whole[places]).sum()))
    p = 2 * float(shares[seen : farthest + 1].sum()) if seen else 1.0
    return min(1.0, max(p, 2.0 ** (1 - len(sums)), _SMALLEST_P))


def _find_scale(sizes: Sequence[float], total: float) -> float:
    """Find what makes numbers whole, or the most that leaves the total within reach."""
    scale = 1
    for size in sizes:
        scale = lcm(scale, Fraction(size).limit_denominator(1000).denominator)
        if scale * total > _FINEST:
            return _FINEST / total
    return float(scale)
