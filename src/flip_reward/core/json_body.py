"""JSON as programs send it: what can be read of a body in which a byte or a value is odd."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_AROUND = "\ufeff\0 \t\r\n"
_MOST_DIGITS = 300  # of a whole number: beyond that it is about as large as a float can be


def read_json(body: bytes) -> Any:  # noqa: ANN401 - whatever the JSON holds
    r"""Read JSON, also where it is not quite JSON.

    Half surrogate pairs and bytes that are not UTF-8 become replacement characters; control characters in strings,
    marks of the byte order, NaN, Infinity and numbers too large for a float are taken as they are meant.

    Raises:
        ValueError: It is no JSON, or nested too deeply.

    Example:
        >>> read_json(b'\xef\xbb\xbf{"reply": "Hi \\ud83d", "logprob": NaN}')
        {'reply': 'Hi �', 'logprob': nan}
    """
    try:
        return orjson.loads(body)
    except ValueError:
        text = mend_surrogates(body).decode(errors="replace").strip(_AROUND)
    try:
        return json.loads(text, strict=False, parse_int=_read_int)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def mend_surrogates(body: bytes) -> bytes:
    r"""Replace escapes in JSON that stand for half of a surrogate pair, which UTF-8 cannot hold.

    Example:
        >>> mend_surrogates(rb'["\ud83d\ude00", "\ud83d", "C:\\ud83d"]')
        b'["\\ud83d\\ude00", "\\ufffd", "C:\\\\ud83d"]'
    """
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], body)


def _read_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)
