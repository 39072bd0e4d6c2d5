from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from flip_reward.data.tables.values import TOO_DEEP, dump_json, to_text


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2**64, str(2**64)),
        (-(10**40), str(-(10**40))),
        (float("inf"), "null"),
        ({"big": 2**70, "bad": [float("nan"), "é"]}, '{"big":1180591620717411303424,"bad":[null,"\\u00e9"]}'),
        ("\ud800", '"\\ud800"'),
        (b"\xff", '"/w=="'),
        (Decimal("1.50"), '"1.50"'),
        (date(2026, 1, 2), '"2026-01-02"'),
    ],
)
def test_any_value_is_written_as_json(value: object, written: str) -> None:
    assert dump_json(value).decode() == written
    json.loads(written)


def test_what_is_nested_too_deeply_is_named_and_the_rest_of_the_row_is_kept() -> None:
    row = json.loads(dump_json({"id": "a", "deep": nested(5000), "huge": 2**80}))
    assert row == {"id": "a", "deep": TOO_DEEP, "huge": 2**80}
    assert json.loads(dump_json(nested(300))) == nested(300)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as typed ", "as typed "),
        (-5, "-5"),
        (False, "false"),
        (1e-9, "1e-09"),
        ({"a": None}, '{"a":null}'),
        ([], "[]"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (timedelta(seconds=90), "0:01:30"),
        (float("-inf"), "-inf"),
        (float("nan"), ""),
    ],
)
def test_the_text_of_a_cell(value: object, text: str) -> None:
    assert to_text(value) == text
