"""Any file of prompts with chosen and rejected responses.

Any file of prompts with chosen and rejected responses: is the best-rewarded response a chosen one?
"""

from __future__ import annotations

from collections.abc import Sequence

from flip_reward.data.rows import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, Prompt, RowModel, Texts, plain_prompt, read_row
from flip_reward.evaluation.grading import Grade, Protocol, grade_best

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


class PreferenceProtocol(Protocol):
    """The response with the highest reward must be a chosen one; see `grade_best` for ties."""

    name = "preference"

    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:
        """Grade the choice of the best response."""
        return grade_best(item.chosen, rewards)

    def chance(self, item: BenchmarkItem) -> float:
        """Return the share of chosen responses."""
        return sum(item.chosen) / len(item.chosen)
