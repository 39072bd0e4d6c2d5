"""Any file of prompts with chosen and rejected responses: is the best-rewarded response a chosen one?

    {"id": "7", "subset": "fruit", "prompt": "Name a fruit.", "chosen": ["Pear."], "rejected": ["Bread."]}

The prompt is text or a list of chat messages. "id" and "subset" may be missing; "chosen" and "rejected" may be one
text each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator

from flip_reward.data.rows import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, RowModel, read_row
from flip_reward.evaluation.grading import Grade, Protocol, grade_best

ONLY_SUBSET = "all"
"""What the subset is called where a file names none."""


class Turn(RowModel):
    """A message of a conversation."""

    role: str
    content: str


def _to_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class PreferenceRow(RowModel):
    """The columns that count."""

    id: str | None = None
    subset: str | None = None
    prompt: str | list[Turn]
    chosen: Annotated[list[str], BeforeValidator(_to_list)]
    rejected: Annotated[list[str], BeforeValidator(_to_list)]


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row, or raise a DataError that says why not.

    Example:
        >>> row = RawRow(0, 1, {"prompt": "Name a fruit.", "chosen": ["Pear."], "rejected": ["Bread."]})
        >>> to_item(row).id, to_item(row).subset
        ('row-0', 'all')
    """
    fields = read_row(PreferenceRow, row)
    prompt = fields.prompt if isinstance(fields.prompt, str) else [turn.model_dump() for turn in fields.prompt]
    item_id, subset = fields.id or f"row-{row.position}", fields.subset or ONLY_SUBSET
    return BenchmarkItem.of(item_id, subset, prompt, fields.chosen, fields.rejected)


class PreferenceProtocol(Protocol):
    """The response with the highest reward must be a chosen one; `grade_best` says how ties count."""

    name = "preference"

    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:
        """Grade the choice of the best response."""
        return grade_best(item.chosen, rewards)

    def chance(self, item: BenchmarkItem) -> float:
        """Return the share of chosen responses."""
        return sum(item.chosen) / len(item.chosen)
