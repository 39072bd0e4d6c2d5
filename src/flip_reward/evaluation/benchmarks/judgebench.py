"""JudgeBench (Tan et al. 2024, arXiv 2410.12784): ScalerLab/JudgeBench on the hub.

Its split "gpt" holds 350 pairs of responses by GPT-4o, which the paper reports; "claude" 270 by Claude 3.5 Sonnet.
A row, with texts of our own:

    {"pair_id": "81ec57f2-483f-515f-93ff-78a8910b2153", "original_id": "10646", "source": "mmlu-pro-computer science",
     "question": "Which sort is stable? (A) quick (B) merge", "response_model": "gpt-4o-2024-05-13",
     "response_A": "Quick sort moves equal keys ... So it is (A).", "response_B": "Merge sort keeps ... So (B).",
     "label": "B>A"}

The subset is the paper's category, told by the source: knowledge, reasoning, math or coding.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from flip_reward.data.hub import HubName
from flip_reward.data.input import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.row_models import RowModel, read_row

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
    """Make an item of a row.

    Raises:
        DataError: The row cannot be used.
    """
    fields = read_row(JudgeBenchRow, row)
    category = next((name for start, name in _CATEGORIES.items() if fields.source.startswith(start)), fields.source)
    better, worse = fields.response_A, fields.response_B
    if fields.label == "B>A":
        better, worse = worse, better
    return BenchmarkItem.of(fields.pair_id, category, fields.question, [better], [worse])
