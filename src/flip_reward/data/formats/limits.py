"""How long a row may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import AnyStr, Protocol, TypeVar

LONGEST_ROW = 32 << 20
"""Longer rows are rejected: in bytes of JSON and columns, in characters of CSV and JSON arrays. A quote that is never
closed swallows no more than this before it is noticed.
"""
TOO_LONG = f"the row is longer than {LONGEST_ROW >> 20} MiB"

_Line_co = TypeVar("_Line_co", str, bytes, covariant=True)


class _LineStream(Protocol[_Line_co]):
    def readline(self, size: int, /) -> _Line_co: ...


def read_line(stream: _LineStream[AnyStr]) -> AnyStr:
    """Read a line to its end, but keep no more than a little over `LONGEST_ROW` of it; nothing at the end."""
    line = stream.readline(LONGEST_ROW + 1)
    if len(line) > LONGEST_ROW:
        skip_rest(stream)
    return line


def skip_rest(stream: _LineStream[AnyStr]) -> None:
    """Go on behind a line of which so much was read."""
    while len(stream.readline(LONGEST_ROW + 1)) > LONGEST_ROW:
        pass


def count_bytes(value: object) -> int:
    """Count the bytes of all texts in a value."""
    if isinstance(value, str | bytes):
        return len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode(errors="replace"))
    if isinstance(value, Mapping):
        return sum(map(count_bytes, value.values()))
    return sum(map(count_bytes, value)) if isinstance(value, list) else 0
