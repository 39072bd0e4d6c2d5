"""The first row of a table: what its columns are called, and what becomes of a row under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flip_reward.errors import DataError


@dataclass(frozen=True, slots=True)
class Header:
    """The names of a table's columns."""

    names: tuple[str | None, ...]
    """None for a column that is left out, because it has no name of its own and no content."""

    @classmethod
    def of(cls, cells: Sequence[str], sample: Sequence[Sequence[object]]) -> Header:
        """Name the columns, given the first rows; a DataError where two with content have one name.

        A column without a name and without content in these rows is left out, and so is the second of a name. One
        column without a name keeps that; further ones are called after their places.

        Example:
            >>> Header.of(["prompt", "", "response", "response"], [["Hi", "", "Hello"]]).names
            ('prompt', None, 'response', None)
        """
        names: list[str | None] = []
        seen: set[str] = set()
        filled = {place for row in sample for place, cell in enumerate(row) if not is_blank(cell)}
        for place, name in enumerate(cells):
            if (not name or name in seen) and place not in filled:
                names.append(None)
            elif name not in seen:
                names.append(name)
                seen.add(name)
            elif name:
                raise DataError(f"the header names a column twice: {name}", hint="rename one of them")
            else:
                names.append(f"column {place + 1}")
        return cls(tuple(names))

    @property
    def left_out(self) -> int:
        """How many columns are left out."""
        return self.names.count(None)

    def to_values(self, cells: Sequence[object], blank: object) -> dict[str, object] | str:
        """Return a row's values, or what is wrong with it. Cells that are missing at its end are blank."""
        if len(cells) == len(self.names) and None not in self.names:
            return dict(zip(self.names, cells, strict=True))  # type: ignore[arg-type]  # None is not in it
        if any(not is_blank(cell) for cell in cells[len(self.names) :]):
            return f"the row has {len(cells)} cells, the header {len(self.names)}"
        values: dict[str, object] = {}
        for place, name in enumerate(self.names):
            cell = cells[place] if place < len(cells) else blank
            if name is not None:
                values[name] = cell
            elif not is_blank(cell):
                return f"there is text in column {place + 1}, which has no name of its own"
        return values


def is_blank(cell: object) -> bool:
    """Whether a cell is empty."""
    return cell is None or cell == ""
