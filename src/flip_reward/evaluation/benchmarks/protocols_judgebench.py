"""JudgeBench's figures: the authors' score over both orders, and the share of pairs right in both."""

from __future__ import annotations

from math import nan

from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.protocols_preference import PreferenceProtocol
from flip_reward.evaluation.grading import Figure, Graded, ItemRewards, grade_best


class JudgeBenchProtocol(PreferenceProtocol):
    """Pairs, of which the correct response must have the higher reward."""

    name = "judgebench"

    def figures(self, graded: Graded) -> list[Figure]:
        """Return both of the paper's ways to count two orders; none for a judge that was shown only one."""
        figures = []
        for name, is_right, note in _WAYS:
            values = graded.average(is_right)
            if graded.select(values)[0]:
                figures.append(Figure(name, graded.mean(values), note))
        return figures


def _read_verdicts(item: BenchmarkItem, said: ItemRewards) -> list[int] | None:
    """Return 1 for each right verdict, -1 for each wrong one and 0 for none; None unless there were both orders.

    Rewards that score each response by itself say the same in both.
    """
    if said.judgements:
        if len({judgement.shown for judgement in said.judgements}) < 2:
            return None
        return [
            0 if judgement.chosen is None else 1 if item.chosen[judgement.chosen] else -1
            for judgement in said.judgements
        ]
    if said.scored is None:
        return [0, 0]
    grade = grade_best(item.chosen, said.scored)
    return [1 if grade.strict else 0 if grade.fractional else -1] * 2


def _is_right_in_sum(item: BenchmarkItem, said: ItemRewards) -> float:
    verdicts = _read_verdicts(item, said)
    return nan if verdicts is None else float(sum(verdicts) > 0)


def _is_right_throughout(item: BenchmarkItem, said: ItemRewards) -> float:
    verdicts = _read_verdicts(item, said)
    return nan if verdicts is None else float(all(verdict > 0 for verdict in verdicts))


_WAYS = (
    (
        "summed over both orders",
        _is_right_in_sum,
        "As the authors count: a right verdict is +1, a wrong one -1, none 0, and the sum must be above 0.",
    ),
    ("position-consistent", _is_right_throughout, "The verdict must be right in both orders."),
)
