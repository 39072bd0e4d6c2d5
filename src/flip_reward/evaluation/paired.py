"""Rewards compared in pairs on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flip_reward.evaluation.grading import Grades
from flip_reward.evaluation.results import ComparisonResult, Verdict
from flip_reward.evaluation.statistics import CONFIDENCE, Estimate, correct_holm, estimate_mean, mcnemar_p


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
    out, and its interval draws items. McNemar's test counts an item as right when its strict grade is above one half
    (for pairs and best of N: when it is 1). Its p is corrected for the number of pairs (Holm).

    A reward is "better" only where the interval excludes 0, the corrected p is below .05, and the strict and the
    fractional rule agree. The interval alone would name a winner in one of twenty pairs of equals; and where the
    winner depends on how ties and unscored items are counted, there is none.
    """
    pairs = [(a, b) for a, b in pairs if a.grades.answered() and b.grades.answered()]
    p_values = [mcnemar_p(_right(a.grades), _right(b.grades)) for a, b in pairs]
    results = []
    for (a, b), p_value, corrected in zip(pairs, p_values, correct_holm(p_values), strict=True):
        fractional = estimate_mean(a.grades.fractional - b.grades.fractional, a.grades.subsets)
        strict = estimate_mean(a.grades.strict - b.grades.strict, a.grades.subsets)
        results.append(
            ComparisonResult(
                benchmark=a.benchmark,
                a=a.label,
                b=b.label,
                items=len(a.grades.items),
                difference=fractional,
                strict_difference=strict,
                mcnemar_p=p_value,
                holm_p=corrected,
                verdict=_judge(fractional, strict, corrected),
            )
        )
    return results


def _right(grades: Grades) -> list[bool]:
    return [bool(grade > 0.5) for grade in grades.strict]


def _judge(fractional: Estimate, strict: Estimate, corrected_p: float) -> Verdict:
    agree = fractional.value * strict.value > 0
    if not (agree and fractional.excludes_zero) or corrected_p >= 1 - CONFIDENCE:
        return "not told apart"
    return "a better" if fractional.value > 0 else "b better"
