"""`RowSample`: the first rows of an input, by which their shape is recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TypeAlias

from flip_reward.data.cells import is_missing
from flip_reward.data.rows import Input, RawRow
from flip_reward.data.shapes.columns import Column, open_cell, split_columns
from flip_reward.data.shapes.conversations import read_replies
from flip_reward.data.shapes.known import fold_name
from flip_reward.errors import DataError

ROWS_SEEN = 100
Values: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class RowSample:
    """The first rows of an input."""

    rows: Sequence[Values]
    name: str = "the rows"

    @classmethod
    def of_input(cls, source: Input) -> RowSample:
        """Read the first rows of an input."""
        if source.name == "stdin" and source.fingerprint() is None:  # it cannot be read a second time
            return cls([], source.name)
        first = islice(source.rows(), ROWS_SEEN)
        return cls([row.values for row in first if isinstance(row, RawRow)], source.name)

    @cached_property
    def values(self) -> Mapping[str, list[object]]:
        """Every column's values, without missing ones."""
        found: dict[str, list[object]] = {}
        for row in self.rows:
            for name, value in row.items():
                cells = found.setdefault(name, [])
                if not is_missing(value):
                    cells.append(open_cell(name, value))
        return found

    @cached_property
    def folded(self) -> Mapping[str, str]:
        """The folded names of columns with values to the rows' own; a name of ours stays before its look-alikes."""
        found: dict[str, str] = {}
        for name, values in self.values.items():
            if values and found.get(fold := fold_name(name)) != fold:
                found[fold] = name if name == fold else found.get(fold, name)
        return found

    def get(self, column: str) -> Sequence[object]:
        """Return what stands in a column; nothing where there is no such column."""
        return self.values.get(column, ())

    def holds_texts(self, column: str) -> bool:
        """Whether what stands in a column can be a response: numbers and truth values are something else."""
        return any(isinstance(value, str | list | Mapping) for value in self.get(column))

    def holds_many(self, column: str) -> bool:
        """Whether cells of a column hold several candidates."""
        lists = [value for value in self.get(column) if isinstance(value, list | Mapping)]
        try:
            return any(len(read_replies(value, column)) > 1 for value in lists)
        except DataError:
            return bool(lists)

    def holds_lists(self, column: str) -> bool:
        """Whether every cell of a column is a list as JSON."""
        cells = self.get(column)
        return bool(cells) and all(
            isinstance(cell, str) and open_cell("", cell, lists=True) != cell for cell in cells
        )

    def count_in(self, row: Values, column: str) -> int:
        """Return how many candidates a cell holds; 0 where it cannot be read."""
        try:
            return len(read_replies(open_cell(column, row.get(column)), column))
        except DataError:
            return 0

    def columns_in(self, theirs: str) -> list[str]:
        """Return the columns that a mapping names: one, several, or those of a template."""
        return [name for part in split_columns(theirs, self.values) for name in Column.of(part, self.values).needs]
