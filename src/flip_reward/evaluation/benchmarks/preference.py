"""Any file of prompts with better and worse responses: is the best-rewarded response a better one?

    {"id": "7", "subset": "fruit", "prompt": "Name a fruit.", "chosen": ["Pear."], "rejected": ["Bread."]}

The rows have any shape of `find_shape` that says which responses are better. "id" and "subset" may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from flip_reward.data.cells import is_missing
from flip_reward.data.rows import RawRow
from flip_reward.data.shapes import Shape
from flip_reward.data.shapes.columns import list_columns, suggest
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.grading import Grade, Protocol, grade_best

ONLY_SUBSET = "all"
"""What the subset is called where a file names none."""


def to_item(shape: Shape, row: RawRow) -> BenchmarkItem:
    """Make an item of a row, or raise a DataError that says why not.

    Example:
        >>> from flip_reward.data.shapes import Need, find_shape
        >>> row = RawRow(0, 1, {"prompt": "Name a fruit.", "a": "Pear.", "b": "Bread.", "pick": "a"})
        >>> columns = {"responses": "a+b", "winner": "pick"}
        >>> item = to_item(find_shape([row.values], columns, need=Need.PREFERENCES), row)
        >>> item.id, item.subset, item.chosen
        ('row-0', 'all', (True, False))
    """
    for column in shape.candidate_columns:
        if column not in row.values:
            raise DataError(f"no column {column!r}{suggest([column], row.values)}; {list_columns(row.values)}")
    group = shape.to_group(row.values, f"row-{row.position}")
    subset = row.values.get(shape.subset)
    return BenchmarkItem(
        group.id, ONLY_SUBSET if is_missing(subset) else str(subset), group, shape.choose(row.values)
    )


class PreferenceProtocol(Protocol):
    """The response with the highest reward must be a chosen one; `grade_best` says how ties count."""

    name = "preference"

    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:
        """Grade the choice of the best response."""
        return grade_best(item.chosen, rewards)

    def chance(self, item: BenchmarkItem) -> float:
        """Return the share of chosen responses."""
        return sum(item.chosen) / len(item.chosen)
