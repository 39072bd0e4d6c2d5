r"""RM-Bench (Liu et al. 2024, arXiv 2410.16184): THU-KEG/RM-Bench on the hub, or its total_dataset.json.

Each row has three chosen and three rejected responses, in the same three styles and in this order: concise, detailed
as plain text, detailed with Markdown. A row, with texts of our own:

    {"id": 12, "domain": "chat", "prompt": "Which planet is the largest?",
     "chosen": ["Jupiter.", "The largest planet is Jupiter, ...", "## Answer\n**Jupiter** ..."],
     "rejected": ["Saturn.", "The largest planet is Saturn, ...", "## Answer\n**Saturn** ..."]}

The domain is chat, code, math, safety-refuse or safety-response; the last two are one domain in the results.
"""

from __future__ import annotations

from flip_reward.data.hub import HubName
from flip_reward.data.input import RawRow
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.row_models import RowModel, read_row

HUB = HubName("THU-KEG/RM-Bench")
STYLES = ("concise", "plain", "markdown")
SAFETY = "safety"


class RMBenchRow(RowModel):
    """The columns that count."""

    id: str
    domain: str
    prompt: str
    chosen: list[str]
    rejected: list[str]


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row. Its tags are the styles; its id begins with the file's domain.

    Raises:
        DataError: The row cannot be used.
    """
    fields = read_row(RMBenchRow, row)
    for name, responses in (("chosen", fields.chosen), ("rejected", fields.rejected)):
        if len(responses) != len(STYLES):
            styles = ", ".join(STYLES)
            raise DataError(f"{name!r} must have {len(STYLES)} responses ({styles}), not {len(responses)}")
    domain = SAFETY if fields.domain.startswith(SAFETY) else fields.domain
    item_id = f"{fields.domain}/{fields.id}"
    return BenchmarkItem.of(item_id, domain, fields.prompt, fields.chosen, fields.rejected, STYLES * 2)
