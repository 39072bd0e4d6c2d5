"""Which candidates of a row are the better ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flip_reward.data.cells import is_missing
from flip_reward.data.shapes.columns import name_type
from flip_reward.data.shapes.known import TIES, Better, fold_name, side_of
from flip_reward.errors import DataError

_FIRST, _SECOND = ("first", "left"), ("second", "right")


@dataclass(frozen=True, slots=True)
class Preference:
    """How the better candidate is found."""

    better: Better
    sides: tuple[str, ...] = ()
    """The columns that hold a candidate each."""
    winner: str = ""
    """The column that says which is better."""
    counts_from: int | None = None
    """Where a winner is a number: what the first candidate's is; None where that is unknown."""
    marks: tuple[str, ...] = ()
    """The keys of ratings or ranks in objects that hold candidates."""

    def choose(self, values: Mapping[str, object], counts: Sequence[int], candidates: object) -> tuple[bool, ...]:
        """Say for each candidate whether it is one of the better ones; a DataError where none is.

        Args:
            values: The row.
            counts: How many candidates each of its columns holds.
            candidates: What stands in the only column of candidates.
        """
        if self.better in (Better.HIGHEST, Better.LOWEST):
            return self._compare(candidates)
        first = 0 if self.better in (Better.CHOSEN, Better.FIRST) else self._read_winner(values)
        return tuple(side == first for side, count in enumerate(counts) for _ in range(count))

    def _compare(self, candidates: object) -> tuple[bool, ...]:
        marks = [self._read_mark(one) for one in candidates] if isinstance(candidates, list) else []
        if not marks or len(set(marks)) == 1:
            raise DataError("all candidates are rated alike: none is better")
        best = max(marks) if self.better is Better.HIGHEST else min(marks)
        return tuple(mark == best for mark in marks)

    def _read_mark(self, candidate: object) -> float:
        found = candidate if isinstance(candidate, Mapping) else {}
        for key in self.marks:
            try:
                return float(str(found[key]))
            except (KeyError, ValueError):
                continue
        raise DataError(f"a candidate has no {' or '.join(map(repr, self.marks))}")

    def _read_winner(self, values: Mapping[str, object]) -> int:
        value = values.get(self.winner)
        if is_missing(value):
            raise DataError(f"{self.winner!r} is empty: which candidate is better?")
        if isinstance(value, str):
            return self._named(value, values)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._numbered(float(value))
        raise DataError(f"{self.winner!r} must name a candidate, not be {name_type(value)}")

    def _named(self, value: str, values: Mapping[str, object]) -> int:
        folded = fold_name(value)
        if folded in TIES:
            raise DataError(f"{self.winner!r} is {value!r}: none of the candidates is better")
        names = [fold_name(side) for side in self.sides]
        ends = [side_of(name) for name in names]
        for known, asked in ((names, folded), (ends, folded), (ends, side_of(folded))):
            if known.count(asked) == 1:
                return known.index(asked)
        if folded in _FIRST + _SECOND:
            return int(folded in _SECOND)
        models = [values.get(f"model_{end}") for end in ends]
        if models.count(value) == 1:
            return models.index(value)
        try:
            return self._numbered(float(value))
        except ValueError:
            raise DataError(
                f"{self.winner!r} is {value[:40]!r}, which is none of {', '.join(map(repr, self.sides))}"
            ) from None

    def _numbered(self, value: float) -> int:
        if self.better is Better.SIGN:
            index = 0 if value < 0 else 1 if value > 0 else None
        elif self.better is Better.ONE_IS_FIRST:
            index = {1.0: 0, 0.0: 1}.get(value)
        else:
            ends = [side_of(fold_name(side)) for side in self.sides]
            if all(end.isdigit() for end in ends):
                index = next((number for number, end in enumerate(ends) if float(end) == value), None)
            else:
                index = self._count(value)
        if index is None:
            raise DataError(f"{self.winner!r} is {value:g}: none of the candidates is better")
        return index

    def _count(self, value: float) -> int | None:
        if self.counts_from is None:
            raise DataError(f"{self.winner!r} is {value:g}: does it count from 0 or from 1? Write the column's name")
        index = value - self.counts_from
        return int(index) if index in range(len(self.sides)) else None


def find_first_number(winners: Sequence[object]) -> int | None:
    """Find out from which number the winners of many rows count; None where that stays open."""
    numbers = set()
    for winner in winners:
        try:
            numbers.add(float(str(winner)))
        except ValueError:
            continue
    if numbers and max(numbers) >= 2:  # the second of two, so 0 is a tie
        return 1
    return 0 if 0.0 in numbers else None
