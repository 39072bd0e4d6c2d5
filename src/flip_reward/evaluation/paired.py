"""Rewards compared with each other on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flip_reward.evaluation.grading import Grades
from flip_reward.evaluation.results import ComparisonResult, Verdict
from flip_reward.evaluation.statistics import CONFIDENCE, Estimate, correct_holm, estimate_mean, mcnemar_p


@dataclass(frozen=True, slots=True)
class Contender:
    """A reward's grades on a benchmark.

    Attributes:
        benchmark: The benchmark's name.
        label: The reward's label.
        graded: The grades.
    """

    benchmark: str
    label: str
    graded: Grades


def compare_all(pairs: Sequence[tuple[Contender, Contender]]) -> list[ComparisonResult]:
    """Compare rewards two by two; both of a pair have answered the same items.

    A difference is an item's grade by one reward minus that by the other, so that what makes an item hard for both
    cancels out, and its interval draws items. McNemar's test counts an item as right when its strict grade is above
    one half (for pairs and best of N: when it is 1). Its p is corrected for the number of pairs (Holm).

    "Better" is said only where the interval excludes 0, the corrected p is below .05, and both point the same way.
    The interval alone would name a winner in one of twenty pairs of equals; and where all hangs on how ties and
    unscored items are counted, there is none.
    """
    differences = [_differ(a.graded, b.graded) for a, b in pairs]
    p_values = [mcnemar_p(_right(a.graded), _right(b.graded)) for a, b in pairs]
    return [
        ComparisonResult(
            benchmark=a.benchmark,
            a=a.label,
            b=b.label,
            items=len(a.graded.items),
            difference=fractional,
            strict_difference=strict,
            mcnemar_p=p_value,
            holm_p=corrected,
            verdict=_judge(fractional, strict, corrected),
        )
        for (a, b), (fractional, strict), p_value, corrected in zip(
            pairs, differences, p_values, correct_holm(p_values), strict=True
        )
    ]


def _differ(a: Grades, b: Grades) -> tuple[Estimate, Estimate]:
    return (
        estimate_mean(a.fractional - b.fractional, a.subsets),
        estimate_mean(a.strict - b.strict, a.subsets),
    )


def _right(graded: Grades) -> list[bool]:
    return [bool(grade > 0.5) for grade in graded.strict]


def _judge(fractional: Estimate, strict: Estimate, corrected_p: float) -> Verdict:
    agree = fractional.value * strict.value > 0
    if not (agree and fractional.excludes_zero) or corrected_p >= 1 - CONFIDENCE:
        return "not told apart"
    return "a better" if fractional.value > 0 else "b better"
