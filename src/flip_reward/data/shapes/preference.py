"""Which candidates of a row are the better ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from flip_reward.data.cells import is_missing
from flip_reward.data.shapes.columns import name_type, open_cell
from flip_reward.data.shapes.known import TIES, Better, fold_name, side_in, side_of
from flip_reward.errors import DataError

_FIRST, _SECOND = ("first", "left"), ("second", "right")
_COMPARED = re.compile(r"\W*(\w+)\s*(>+|<+|=+)\s*(\w+)\W*")
"""A verdict such as "A>B" or "[[B>>A]]"."""
_LABELS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


@dataclass(frozen=True, slots=True)
class Preference:
    """How the better candidate is found."""

    better: Better
    sides: tuple[str, ...] = ()
    """The columns that hold a candidate each."""
    winner: str = ""
    """The column that says which is better; of flags one for each candidate, joined by "+"."""
    counts_from: int | None = None
    """Where a winner is a number: what the first candidate's is; None where that is unknown."""
    marks: tuple[str, ...] = ()
    """The keys of ratings or ranks in objects that hold candidates."""

    def choose(
        self, values: Mapping[str, object], counts: Sequence[int], candidates: object, texts: Sequence[str]
    ) -> tuple[bool, ...]:
        """Say for each candidate whether it is one of the better ones; a DataError where none is.

        Args:
            values: The row.
            counts: How many candidates each of its columns holds.
            candidates: What stands in the only column of candidates.
            texts: The candidates in it.
        """
        if self.better is Better.LISTED:
            return self._choose_of(texts, open_cell(self.winner, values.get(self.winner)))
        if self.better is Better.LABELLED:
            return (self._read_label(values.get(self.winner)),)
        if self.better in (Better.HIGHEST, Better.LOWEST):
            return self._compare(candidates)
        first = 0 if self.better in (Better.CHOSEN, Better.FIRST) else self._read_winner(values)
        return tuple(side == first for side, count in enumerate(counts) for _ in range(count))

    def _compare(self, candidates: object) -> tuple[bool, ...]:
        marks = [self._read_mark(one) for one in candidates] if isinstance(candidates, list) else []
        return _mark_best(marks if self.better is Better.HIGHEST else [-mark for mark in marks])

    def _choose_of(self, texts: Sequence[str], winner: object) -> tuple[bool, ...]:
        if is_missing(winner):
            raise DataError(f"{self.winner!r} is empty: which candidate is better?")
        if isinstance(winner, list):
            if len(winner) != len(texts):
                raise DataError(f"{self.winner!r} has {len(winner)} ratings for {len(texts)} candidates")
            return _mark_best([self._read_number(one) for one in winner])
        named = [text == winner for text in texts]
        if any(named):
            return tuple(named)
        number = self._read_number(winner)
        index = self._count(number, len(texts))
        if index is None:
            raise DataError(f"{self.winner!r} is {number:g}: none of the {len(texts)} candidates is better")
        return tuple(place == index for place in range(len(texts)))

    def _read_number(self, value: object) -> float:
        try:
            return float(_LABELS.get(str(value).casefold(), str(value)))
        except ValueError:
            raise DataError(f"{self.winner!r}: {str(value)[:40]!r} is neither a candidate nor a number") from None

    def _read_label(self, value: object) -> bool:
        label = read_label(value)
        if label is None:
            raise DataError(f"{self.winner!r} must be true or false, not {name_type(value)}")
        return label

    def _read_mark(self, candidate: object) -> float:
        found = candidate if isinstance(candidate, Mapping) else {}
        for key in self.marks:
            try:
                return float(str(found[key]))
            except (KeyError, ValueError):
                continue
        raise DataError(f"a candidate has no {' or '.join(map(repr, self.marks))}")

    def _read_winner(self, values: Mapping[str, object]) -> int:
        if self.better is Better.FLAGGED:
            flags = [self._read_label(values.get(name)) for name in self.winner.split("+")]
            if flags.count(True) != 1:
                raise DataError(f"{self.winner!r}: none of the candidates is better")
            return flags.index(True)
        value = values.get(self.winner)
        if is_missing(value):
            raise DataError(f"{self.winner!r} is empty: which candidate is better?")
        if isinstance(value, str):
            return self._named(value, values)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._numbered(float(value))
        raise DataError(f"{self.winner!r} must name a candidate, not be {name_type(value)}")

    def _named(self, value: str, values: Mapping[str, object]) -> int:
        compared = _COMPARED.fullmatch(value)
        if compared:
            value = compared[1] if compared[2][0] == ">" else compared[3] if compared[2][0] == "<" else "tie"
        folded = fold_name(value)
        if folded in TIES:
            raise DataError(f"{self.winner!r} is {value!r}: none of the candidates is better")
        names = [fold_name(side) for side in self.sides]
        ends = [side_of(name) for name in names]
        for known, asked in ((names, folded), (ends, folded), (ends, side_in(folded))):
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
                index = self._count(value, len(self.sides))
        if index is None:
            raise DataError(f"{self.winner!r} is {value:g}: none of the candidates is better")
        return index

    def _count(self, value: float, among: int) -> int | None:
        if self.counts_from is None:
            raise DataError(f"{self.winner!r} is {value:g}: does it count from 0 or from 1? Write what it names")
        index = value - self.counts_from
        return int(index) if index in range(among) else None


def read_label(value: object) -> bool | None:
    """Read whether a candidate is good; None where a cell says something else."""
    return _LABELS.get(str(value).casefold())


def _mark_best(marks: Sequence[float]) -> tuple[bool, ...]:
    if not marks or len(set(marks)) == 1:
        raise DataError("all candidates are rated alike: none is better")
    return tuple(mark == max(marks) for mark in marks)


def find_first_number(winners: Iterable[tuple[object, int]]) -> int | None:
    """Find out from which number winners count, each among so many candidates; None where that stays open.

    Example:
        >>> (
        ...     find_first_number([(1, 2), (2, 2), (0, 2)]),
        ...     find_first_number([(0, 3), (2, 3)]),
        ...     find_first_number([(1, 3)]),
        ... )
        (1, 0, None)
    """
    first = None
    for winner, among in winners:
        with suppress(ValueError):
            number = float(str(winner))
            if number == among:  # the last one, so 0 is a tie
                return 1
            first = 0 if number == 0 else first
    return first
