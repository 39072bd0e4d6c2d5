from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.formats.json_rows import read_json_lines
from flip_reward.data.rows import RawRow, Row, Skip, skip_nothing
from tests.unit.data.formats.rows import reason_of


def read_jsonl_bytes(content: bytes, skip: Skip = skip_nothing) -> list[Row]:
    return list(read_json_lines(io.BytesIO(content), skip))


def test_integers_keep_all_their_digits() -> None:
    digits = "1" + "0" * 30 + "1"
    [row, huge] = read_jsonl_bytes(f'{{"id": {digits}, "f": 1e30}}\n{{"id": {"9" * 300}.5}}'.encode())
    assert isinstance(row, RawRow)
    assert row.values == {"id": int(digits), "f": 1e30}
    assert isinstance(huge, RawRow)


def test_blank_lines_are_no_rows_but_lines() -> None:
    assert read_jsonl_bytes(b'\n{"a": 1}\n  \t\r\n{"a": 2}') == [RawRow(0, 2, {"a": 1}), RawRow(1, 4, {"a": 2})]


def test_nothing_and_blank_lines_only_are_no_rows() -> None:
    assert read_jsonl_bytes(b"") == read_jsonl_bytes(b"\n \n") == []


def test_byte_order_marks_and_carriage_returns_are_no_part_of_the_rows() -> None:
    assert read_jsonl_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n') == [
        RawRow(0, 1, {"a": 1}),
        RawRow(1, 2, {"a": 2}),
    ]


def test_line_separators_of_unicode_do_not_end_a_line() -> None:
    text = "one\u2028two\x85three\x0bfour"
    assert read_jsonl_bytes(json.dumps({"a": text}, ensure_ascii=False).encode()) == [RawRow(0, 1, {"a": text})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at column 8"),
        (b'{"a": 1', "not JSON: Expecting ',' delimiter at column 8"),
        (b"{'a': 1}", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"a": "x\x00"}', "not JSON: Invalid control character at column 9"),
        (b"[1, 2]", "not a JSON object but a list"),
        (b"[NaN]", "not a JSON object but a list"),
        (b'"text"', "not a JSON object but a single value"),
        (b"null", "not a JSON object but a single value"),
        (b'{"a": ' + b"9" * 5000 + b', "b": NaN}', "not readable as JSON: Exceeds the limit"),
        (b"[" * 100_000, "not readable as JSON: maximum recursion depth exceeded"),
    ],
)
def test_a_bad_line_says_why_and_the_next_ones_are_read(line: bytes, reason: str) -> None:
    before, bad, after = read_jsonl_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    assert before == RawRow(0, 1, {"a": 1})
    assert (bad.position, bad.line) == (1, 2)
    assert reason_of(bad).startswith(reason)
    assert after == RawRow(2, 3, {"a": 2})


def test_what_python_writes_is_read_even_where_it_is_not_strict_json() -> None:
    [row] = read_jsonl_bytes(b'{"a": NaN, "b": -Infinity, "c": "\\ud800"}')
    assert isinstance(row, RawRow)
    assert row.values["c"] == "\ud800"
    assert row.values["b"] == float("-inf")


def test_a_line_of_20_megabytes_is_a_row_like_any_other() -> None:
    text = "é" * 10_000_000
    first, second = read_jsonl_bytes(json.dumps({"a": text}, ensure_ascii=False).encode() + b'\n{"a": 2}\n')
    assert isinstance(first, RawRow)
    assert first.values["a"] == text
    assert second == RawRow(1, 2, {"a": 2})


def test_skipped_lines_keep_their_positions_and_are_not_parsed() -> None:
    asked: list[int] = []

    def skip(position: int) -> bool:
        asked.append(position)
        return position in {0, 1}

    assert read_jsonl_bytes(b'not JSON\n\n{"a": 1}\n{"a": 2}\n', skip) == [RawRow(2, 4, {"a": 2})]
    assert asked == [0, 1, 2]


def test_lines_are_taken_from_the_stream_only_when_they_are_asked_for() -> None:
    taken = 0

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            nonlocal taken
            taken += 1
            line = b'{"a": 1}\n'
            buffer[: len(line)] = line
            return len(line)

    rows = read_json_lines(io.BufferedReader(Endless(), 16), skip_nothing)
    assert [next(rows).position for _ in range(3)] == [0, 1, 2]
    assert taken < 10


whole_numbers = st.integers(-(2**63), 2**64 - 1)  # larger ones become floats
good_lines = st.dictionaries(st.text(max_size=5), whole_numbers | st.text() | st.none(), max_size=3).map(
    lambda values: json.dumps(values).encode()
)
bad_lines = st.binary(max_size=40).map(lambda noise: b"!" + noise.replace(b"\n", b""))


@given(st.binary())
def test_random_bytes_never_raise_and_every_line_has_its_row(content: bytes) -> None:
    rows = read_jsonl_bytes(content)
    lines = [line for line in content.split(b"\n") if line.strip(b" \t\n\r\x0b\x0c")]
    assert [row.position for row in rows] == list(range(len(lines)))


@given(
    st.lists(good_lines | bad_lines | st.just(b"") | st.just(b" \t"), max_size=20), st.sampled_from([b"\n", b"\r\n"])
)
def test_good_lines_between_bad_ones_all_come_out_in_their_places(lines: list[bytes], end: bytes) -> None:
    expected: list[tuple[int, int, object]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            expected.append((len(expected), number, json.loads(line) if line.startswith(b"{") else None))
    rows = read_jsonl_bytes(end.join(lines))
    assert [(row.position, row.line, row.values if isinstance(row, RawRow) else None) for row in rows] == expected
