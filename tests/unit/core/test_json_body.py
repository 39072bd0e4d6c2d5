from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.json_body import mend_surrogates, read_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=10,
)


@given(JSON)
def test_json_is_read_as_it_is(value: object) -> None:
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'["\ud83d"]', ["\ufffd"]),
        (rb'["\uDE00 \ud83d\ude00"]', ["\ufffd \U0001f600"]),
        (rb'["\\ud83d"]', [r"\ud83d"]),
        (rb'["\\\ud83d"]', ["\\\ufffd"]),
        (b'["a\xf0\x9f"]', ["a\ufffd"]),
        (b'["a\x01\tb\n"]', ["a\x01\tb\n"]),
        (b"\xef\xbb\xbf\xef\xbb\xbf \n[1]\x00", [1]),
        (b"[1e999, -Infinity]", [math.inf, -math.inf]),
        (b"[NaN, " + b"7" * 5000 + b"]", [math.nan, math.inf]),
    ],
)
def test_what_is_odd_is_read_as_it_is_meant(body: bytes, value: object) -> None:
    assert repr(read_json(body)) == repr(value)


@pytest.mark.parametrize("body", [b"", b"Hi", b'["a', b"[1] [2]", b"[" * 100_000, b'{"a": "b"'])
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of two kinds
        read_json(body)


@given(st.binary())
def test_mending_twice_changes_nothing_more(body: bytes) -> None:
    mended = mend_surrogates(body)
    assert mend_surrogates(mended) == mended
