from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.formats.json_rows import read_json_lines
from flip_reward.data.readers import open_input
from flip_reward.data.rows import RawRow, Row, Skip, skip_nothing
from tests.unit.data.formats.rows import reason_of


def read_jsonl_bytes(content: bytes, skip: Skip = skip_nothing) -> list[Row]:
    return list(read_json_lines(io.BytesIO(content), skip))


def test_integers_keep_all_their_digits() -> None:
    digits = "1" + "0" * 30 + "1"
    [row, huge, nested] = read_jsonl_bytes(
        f'{{"id": {digits}, "f": 1e30}}\n{{"id": {"9" * 300}.5}}\n{{"a": [{{"id": -{digits}}}]}}'.encode()
    )
    assert isinstance(row, RawRow)
    assert row.values == {"id": int(digits), "f": 1e30}
    assert isinstance(huge, RawRow)
    assert isinstance(nested, RawRow)
    assert nested.values == {"a": [{"id": -int(digits)}]}


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
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at column 8 (or in another encoding: --encoding cp1252)"),
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


whole_numbers = st.integers(-(2**70), 2**70)
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


# Arrays, and objects over several lines

ROWS = [{"a": "1", "b": [{"c": 2}]}, {"a": "]} ü", "b": []}, {"a": "3", "b": [{"c": 4}]}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
LAYOUTS = {
    "lines": (LINES, ""),
    "an array": (json.dumps(ROWS), "a JSON array"),
    "an array over many lines": (f"\n {json.dumps(ROWS, indent=2, ensure_ascii=False)}\n", "a JSON array"),
    "objects over many lines": (
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        "JSON objects, one after another",
    ),
    "objects with nothing between them": (LINES.replace("\n", ""), "JSON objects, one after another"),
    "lines of an old Mac": (LINES.replace("\n", "\r"), "JSON objects, one after another"),
    "a list in an object": (json.dumps({"version": 1, "data": ROWS, "n": {}}), "the list in a JSON object"),
    "a list in an object over many lines": (json.dumps({"rows": ROWS}, indent=2), "the list in a JSON object"),
}


def open_text(tmp_path: Path, text: str, name: str = "rows.json") -> list[Row]:
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return list(open_input(str(tmp_path / name)).rows())


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.json.gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_json_yields_the_same_rows(tmp_path: Path, layout: str, name: str) -> None:
    text, remark = LAYOUTS[layout]
    rows = open_text(tmp_path, text, name)
    assert [row.values for row in rows if isinstance(row, RawRow)] == ROWS
    assert [row.position for row in rows] == [0, 1, 2]
    assert open_input(str(tmp_path / name)).remark == remark


@pytest.mark.parametrize(
    "text",
    [
        '{"data": [{"a": 1}], "response": "x"}\n{"data": [{"a": 2}], "response": "y"}\n',
        '{"data": [{"role": "user", "content": "x"}]}\n',
        '{"messages": [{"a": 1}]}\n',
    ],
)
def test_a_column_that_holds_a_list_is_no_list_of_rows(tmp_path: Path, text: str) -> None:
    rows = [row.values for row in open_text(tmp_path, text) if isinstance(row, RawRow)]
    assert rows == [json.loads(line) for line in text.splitlines()]


def test_a_broken_line_at_the_beginning_does_not_make_lines_something_else(tmp_path: Path) -> None:
    for broken in ('{"a": ', '{"a": 1,', "{", '{"a": [', "}", '{"a": 1'):
        first, second = open_text(tmp_path, f'{broken}\n{{"a": 2}}\n')
        assert reason_of(first).startswith("not JSON")
        assert second == RawRow(1, 2, {"a": 2})


def test_items_keep_their_lines_and_what_is_no_object_is_rejected(tmp_path: Path) -> None:
    first, second, third, last = open_text(tmp_path, '[\n{"a": 1},\n\n[1],\n"x",\n{"a": NaN}]')
    assert (first.line, second.line, third.line, last.line) == (2, 4, 5, 6)
    assert (reason_of(second), reason_of(third)) == (
        "not a JSON object but a list",
        "not a JSON object but a single value",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"a": 1}', "the JSON is cut off here"),
        ('[{"a": 1}, {"a": ', "not JSON: Expecting value in line 1"),
        ('[{"a": 1}\n{"a" 2}]', "not JSON: Expecting ':' delimiter in line 2"),
        ('[{"a": 1}]]', "not JSON: Expecting value in line 1"),
        ('{"data": [{"a": 1}], "b"', "not JSON"),
        ('[{"a": 1},' + "[" * 100_000, "not readable as JSON"),
    ],
)
def test_json_that_breaks_off_ends_with_a_rejected_row(tmp_path: Path, text: str, reason: str) -> None:
    first, last = open_text(tmp_path, text)
    assert first == RawRow(0, 1, {"a": 1})
    assert reason_of(last).startswith(reason)
    assert reason_of(last).endswith("; nothing after it is read")


def test_an_item_that_is_not_utf8_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(b'[{"a": 1}, {"a": "\xff"}, {"a": "\\udcff"}]')
    first, second, third = open_input(str(tmp_path / "rows.json")).rows()
    assert isinstance(first, RawRow)
    assert "--encoding cp1252" in reason_of(second)
    assert third == RawRow(2, 1, {"a": "\udcff"})


def test_an_array_larger_than_a_piece_is_read_piece_by_piece(tmp_path: Path) -> None:
    rows = [{"n": number, "text": "x" * (number % 7 * 100_000)} for number in range(40)]
    assert [row.values for row in open_text(tmp_path, json.dumps(rows)) if isinstance(row, RawRow)] == rows


def test_a_compressed_array_that_is_cut_off_gives_out_what_it_holds(tmp_path: Path) -> None:
    content = gzip.compress(json.dumps([{"n": number} for number in range(50_000)]).encode())
    (tmp_path / "rows.json.gz").write_bytes(content[: len(content) // 2])
    *good, last = open_input(str(tmp_path / "rows.json.gz")).rows()
    assert len(good) > 10_000
    assert "cut off" in reason_of(last)
