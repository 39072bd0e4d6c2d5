"""Any file of prompts with chosen and rejected responses."""

from __future__ import annotations

from flip_reward.data.input import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.row_models import Prompt, RowModel, Texts, plain_prompt, read_row

ONLY_SUBSET = "all"
"""What the subset is called where a file names none."""


class PreferenceRow(RowModel):
    """A row of such a file.

        {"id": "7", "subset": "fruit", "prompt": "Name a fruit.", "chosen": ["Pear."], "rejected": ["Bread."]}

    The prompt is text or a list of chat messages. "id" and "subset" may be missing; chosen and rejected may be one
    text each.
    """

    id: str | None = None
    subset: str | None = None
    prompt: Prompt
    chosen: Texts
    rejected: Texts


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row.

    Raises:
        DataError: The row cannot be used.

    Example:
        >>> row = RawRow(0, 1, {"prompt": "Name a fruit.", "chosen": ["Pear."], "rejected": ["Bread."]})
        >>> to_item(row).id, to_item(row).subset
        ('row-0', 'all')
    """
    fields = read_row(PreferenceRow, row)
    return BenchmarkItem.of(
        fields.id or f"row-{row.position}",
        fields.subset or ONLY_SUBSET,
        plain_prompt(fields.prompt),
        fields.chosen,
        fields.rejected,
    )
