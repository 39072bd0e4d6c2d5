"""A value as JSON or as the text of a cell, whatever it is: numbers of any size, times, bytes, half characters."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping

import orjson

TOO_DEEP = "(nested too deeply to be written)"


def dump_json(value: object) -> bytes:
    """Write a value as JSON that any reader takes: numbers that are none become null, whole numbers stay whole.

    Example:
        >>> dump_json({"id": 2**70, "rate": float("nan"), "tags": ("a", None)})
        b'{"id":1180591620717411303424,"rate":null,"tags":["a",null]}'
    """
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:  # what orjson has no place for: a number of more than 64 bits, half a character, deep nesting
        return json.dumps(_cleaned(value), allow_nan=False, separators=(",", ":")).encode()


def to_text(value: object) -> str:
    """Write a value as the text of a cell: nothing for null and NaN, JSON for lists and objects.

    Example:
        >>> [to_text(value) for value in ("as it is", None, True, 0.5, ["a", 1], float("nan"), float("inf"))]
        ['as it is', '', 'true', '0.5', '["a",1]', '', 'inf']
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = dump_json(value).decode()
    return str(json.loads(text)) if text.startswith('"') else text


def _plain(value: object) -> object:
    """Turn what JSON does not know into what it knows."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    for method in ("isoformat", "tolist"):  # times of other libraries; arrays
        if hasattr(value, method):
            return getattr(value, method)()
    return str(value)


def _cleaned(value: object) -> object:
    try:
        return _clean(value)
    except RecursionError:
        if isinstance(value, Mapping):
            return {str(name): _cleaned_part(part) for name, part in value.items()}
        return TOO_DEEP


def _cleaned_part(value: object) -> object:
    try:
        return _clean(value)
    except RecursionError:
        return TOO_DEEP


def _clean(value: object) -> object:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _clean(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part) for part in value]
    return _clean(orjson.loads(orjson.dumps(value, default=_plain)))
