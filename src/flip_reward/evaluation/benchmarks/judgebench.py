"""JudgeBench (Tan et al. 2024, arXiv 2410.12784): pairs of responses, one of them correct.

Rows: ScalerLab/JudgeBench on the hub. Its split "gpt" holds 350 pairs of responses by GPT-4o, which the paper
reports; "claude" 270 by Claude 3.5 Sonnet. A row, with texts of our own:

    {"pair_id": "81ec57f2-483f-515f-93ff-78a8910b2153", "original_id": "10646", "source": "mmlu-pro-computer science",
     "question": "Which sort is stable? (A) quick (B) merge", "response_model": "gpt-4o-2024-05-13",
     "response_A": "Quick sort moves equal keys ... So it is (A).", "response_B": "Merge sort keeps ... So (B).",
     "label": "B>A"}

The subset is the paper's category, which follows from the source: knowledge, reasoning, math or coding.

Figures: the authors' score, which sums the verdicts over both orders of a pair, a missing one being 0, and the share
of pairs with the right verdict in both.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from flip_reward.data.hub import HubName
from flip_reward.data.rows import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, RowModel, read_row
from flip_reward.evaluation.benchmarks.preference import PreferenceProtocol
from flip_reward.evaluation.benchmarks.rules import mark_headline
from flip_reward.evaluation.grading import Figure, Grades, ItemRewards, grade_best

HUB_GPT = HubName("ScalerLab/JudgeBench", split="gpt")
HUB_CLAUDE = HubName("ScalerLab/JudgeBench", split="claude")

_CATEGORIES = MappingProxyType(
    {
        "mmlu-pro": "knowledge",
        "livebench-reasoning": "reasoning",
        "livebench-math": "math",
        "livecodebench": "coding",
    }
)


class JudgeBenchRow(RowModel):
    """The columns that count."""

    pair_id: str
    source: str
    question: str
    response_A: str  # noqa: N815 - the column's own name
    response_B: str  # noqa: N815 - the column's own name
    label: Literal["A>B", "B>A"]


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row, or raise a DataError that says why not."""
    fields = read_row(JudgeBenchRow, row)
    category = next((name for start, name in _CATEGORIES.items() if fields.source.startswith(start)), fields.source)
    better, worse = fields.response_A, fields.response_B
    if fields.label == "B>A":
        better, worse = worse, better
    return BenchmarkItem.of(fields.pair_id, category, fields.question, [better], [worse])


SCORE = "summed over both orders"


class JudgeBenchProtocol(PreferenceProtocol):
    """The correct response of a pair must have the higher reward."""

    name = "judgebench"
    needs = MappingProxyType({SCORE: tuple(_CATEGORIES.values())})

    def figures(self, grades: Grades) -> list[Figure]:
        """Return both of the paper's ways to count two orders, for all categories or for the only one that is there.

        There are none for a judge that was shown only one order.
        """
        if not self.has_all(SCORE, grades) and len(set(grades.subsets)) > 1:
            return []
        if any(_has_one_order(rewards) for run in grades.runs for rewards in run):
            return []
        figures = []
        for name, is_right, note in (
            (SCORE, _is_right_in_sum, _SUM_NOTE),
            ("position-consistent", _is_right_in_both, "The verdict must be right in both orders."),
        ):
            figures.append(Figure(name, grades.mean(grades.average(is_right)), note))
        return mark_headline(figures, SCORE)


_SUM_NOTE = "As the authors count: a right verdict is +1, a wrong one -1, none 0, and the sum must be above 0."


def _is_right_in_sum(item: BenchmarkItem, rewards: ItemRewards) -> float:
    return float(sum(_read_verdicts(item, rewards)) > 0)


def _is_right_in_both(item: BenchmarkItem, rewards: ItemRewards) -> float:
    return float(all(verdict > 0 for verdict in _read_verdicts(item, rewards)))


def _has_one_order(rewards: ItemRewards) -> bool:
    return len({judgement.shown for judgement in rewards.judgements}) == 1


def _read_verdicts(item: BenchmarkItem, rewards: ItemRewards) -> list[int]:
    """Return 1 for each right verdict, -1 for each wrong one and 0 for none.

    Rewards that score each response by itself say the same in both.
    """
    if rewards.judgements:
        return [
            0 if judgement.chosen is None else 1 if item.chosen[judgement.chosen] else -1
            for judgement in rewards.judgements
        ]
    values = rewards.scored
    if values is None:
        return [0, 0]
    grade = grade_best(item.chosen, values)
    return [1 if grade.strict else 0 if grade.fractional else -1] * 2
