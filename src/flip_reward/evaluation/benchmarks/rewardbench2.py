"""RewardBench 2 (Malik et al. 2025, arXiv 2506.01937): allenai/reward-bench-2 on the hub, split "test", 1,865 rows.

Six subsets: Factuality, Precise IF, Math, Safety, Focus (one chosen and three rejected responses each) and Ties
(several of both). In Ties the id tells which rows belong together: "ref:3" asks for one correct answer, "tied:3" for
any of several. A row, with texts of our own:

    {"id": "tied:3", "subset": "Ties", "prompt": "Name a primary colour.",
     "chosen": ["Red.", "Blue.", "Yellow."], "rejected": ["Brown.", "Stone.", "Seven."],
     "num_correct": 3, "num_incorrect": 3, "total_completions": 6, "models": ["..."], "additional_metadata": {...}}
"""

from __future__ import annotations

from flip_reward.data.hub import HubName
from flip_reward.data.input import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.row_models import RowModel, read_row

HUB = HubName("allenai/reward-bench-2", split="test")
TIES = "Ties"


class RewardBench2Row(RowModel):
    """The columns that count. The chosen responses are the correct ones."""

    id: str
    subset: str
    prompt: str
    chosen: list[str]
    rejected: list[str]


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row.

    Raises:
        DataError: The row cannot be used.
    """
    fields = read_row(RewardBench2Row, row)
    subset = TIES if fields.subset.lower() == TIES.lower() else fields.subset
    return BenchmarkItem.of(fields.id, subset, fields.prompt, fields.chosen, fields.rejected)
