"""The numbers in a log, as trainers and tables write them."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Real

from flip_reward.data.cells import is_null
from flip_reward.data.shapes.columns import name_type
from flip_reward.errors import DataError

_LARGEST_STEP = 2**53
_LONGEST = 40
_NOTHING = frozenset({"", "nan", "none", "null", "inf", "-inf", "+inf", "infinity", "-infinity", "na", "n/a"})


def is_number(value: object) -> bool:
    """Whether a value is a number that a reward can be, also as text."""
    try:
        return read_reward(value, "") is not None
    except DataError:
        return False


def read_reward(value: object, column: str) -> float | None:
    """Read a reward; None where a trainer has none: null, NaN, an infinity, an empty cell. A DataError for others.

    Example:
        >>> [read_reward(value, "reward") for value in (0.5, " 1 ", True, "NaN")]
        [0.5, 1.0, 1.0, None]
    """
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in _NOTHING:
            return None
        try:
            value = float(text) if len(text) <= _LONGEST else text
        except ValueError:
            value = {"true": 1.0, "false": 0.0}.get(text.casefold(), value)
    if is_null(value):
        return None
    if not isinstance(value, Real | Decimal):
        shown = f"the text {value[:_LONGEST]!r}" if isinstance(value, str) else name_type(value)
        raise DataError(f"{column!r} must be a number, not {shown}")
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_step(value: object, column: str) -> int:
    """Read a step; a DataError where it is none.

    Example:
        >>> read_step(3.0, "step"), read_step("12", "step")
        (3, 12)
    """
    number = None if isinstance(value, bool) else read_reward(value, column)
    if number is None or number != int(number) or abs(number) > _LARGEST_STEP:
        raise DataError(f"{column!r} must be a whole number, not {value if number is not None else name_type(value)}")
    return int(number)
