"""What a cell of a table stands for, whatever type a file or a library gives it: an id, or a response."""

from __future__ import annotations

import math
from datetime import date, time
from decimal import Decimal
from numbers import Integral, Real
from uuid import UUID


def is_missing(value: object) -> bool:
    """Whether nothing stands in a cell: null, NaN, an empty text or list.

    Example:
        >>> is_missing(None), is_missing(float("nan")), is_missing(""), is_missing(0)
        (True, True, True, False)
    """
    return not value if isinstance(value, str | list) else is_null(value)


def is_null(value: object) -> bool:
    """Whether a cell is null or NaN, or what pandas has for them."""
    if isinstance(value, str):
        return False
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, Real | Decimal) and bool(value != value)  # only NaN differs from itself


def read_id(value: object) -> str | None:
    """Return the name that a cell gives; None where it is empty, or holds what names nothing, such as a list.

    Example:
        >>> (
        ...     read_id(1),
        ...     read_id(1.0),
        ...     read_id("1"),
        ...     read_id(2.5),
        ...     read_id(date(2026, 5, 1)),
        ...     read_id([1]),
        ...     read_id(True),
        ... )
        ('1', '1', '1', '2.5', '2026-05-01', None, None)
    """
    if isinstance(value, str):
        return str.__str__(value) if _is_encodable(value) else None
    if isinstance(value, bool) or is_missing(value):
        return None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return text if text.isprintable() and "\ufffd" not in text else value.hex()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Real | Decimal) and not math.isfinite(value):
        return None
    if isinstance(value, float | Decimal) and value == int(value):
        return str(int(value))
    return read_response(value) if isinstance(value, Real | Decimal) else None


def read_response(value: object) -> str | None:
    """Return the text of a response; a number is its text, an empty cell no text. None where it is something else.

    Example:
        >>> read_response("one"), read_response(1), read_response(1.5), read_response(None), read_response([])
        ('one', '1', '1.5', '', None)
    """
    if isinstance(value, str):
        return str.__str__(value)  # a subclass, such as numpy's, becomes plain
    if is_null(value):
        return ""
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Decimal):
        return str(value)
    return repr(float(value)) if isinstance(value, Real) else None


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
