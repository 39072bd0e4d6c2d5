"""Any file of prompts with better and worse responses: is the best-rewarded response a better one?

    {"id": "7", "subset": "fruit", "prompt": "Name a fruit.", "chosen": ["Pear."], "rejected": ["Bread."]}

The rows have any shape of `find_shape` that says which responses are better. "id" and "subset" may be missing. Rows
that hold one response and a label each are joined by their prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flip_reward.core.conversation import Message
from flip_reward.data.cells import is_missing
from flip_reward.data.rows import InvalidRow, RawRow, Row
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.data.shapes.columns import list_columns, suggest
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, ColumnError
from flip_reward.evaluation.grading import Grade, Protocol, grade_best

ONLY_SUBSET = "all"
"""What the subset is called where a file names none."""
JOINED = find_shape([], {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}, need=Need.PREFERENCES)
"""How rows are read that were joined."""


def join_labelled(rows: Iterable[Row], shape: Shape) -> Iterator[Row]:
    """Join rows that hold one response and a label each by their conversation, wherever they stand.

    A row's id and subset are those of the first.
    """
    joined: dict[tuple[Message, ...], tuple[RawRow, dict[bool, list[str]]]] = {}
    for row in rows:
        if isinstance(row, InvalidRow):
            yield row
            continue
        try:
            group, labels = shape.to_group(row.values, ""), shape.choose(row.values)
        except DataError as error:
            yield InvalidRow(row.position, row.line, str(error))
            continue
        _, responses = joined.setdefault(group.messages, (row, {True: [], False: []}))
        for response, label in zip(group.responses, labels, strict=True):
            responses[label].append(response)
    for messages, (row, responses) in joined.items():
        values = {
            "id": row.values.get(shape.id),
            "subset": row.values.get(shape.subset),
            "prompt": [{"role": message.role, "content": message.content} for message in messages],
            "chosen": responses[True],
            "rejected": responses[False],
        }
        yield RawRow(row.position, row.line, values)


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
            raise ColumnError(f"no column {column!r}{suggest([column], row.values)}; {list_columns(row.values)}")
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
