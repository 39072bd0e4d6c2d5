from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.formats import (
    LONGEST_ROW,
    DamagedStreamError,
    open_parquet,
    open_stream,
    read_csv,
    read_json_lines,
    read_parquet,
)
from flip_reward.data.readers import open_input
from flip_reward.data.rows import InvalidRow, RawRow, Row, Skip, skip_nothing
from flip_reward.errors import DataError, MissingDependencyError


def read_jsonl_bytes(content: bytes, skip: Skip = skip_nothing) -> list[Row]:
    return list(read_json_lines(io.BytesIO(content), skip))


def read_csv_text(content: str | bytes, skip: Skip = skip_nothing) -> list[Row]:
    data = content if isinstance(content, bytes) else content.encode()
    return list(read_csv(io.BytesIO(data), skip, delimiter=","))


def reason_of(row: Row) -> str:
    assert isinstance(row, InvalidRow)
    return row.reason


# JSON lines


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


def test_integers_keep_all_their_digits() -> None:
    digits = "1" + "0" * 30 + "1"
    [row, huge] = read_jsonl_bytes(f'{{"id": {digits}, "f": 1e30}}\n{{"id": {"9" * 300}.5}}'.encode())
    assert isinstance(row, RawRow)
    assert row.values == {"id": int(digits), "f": 1e30}
    assert isinstance(huge, RawRow)


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


# CSV


def test_csv_rows_are_read_under_their_header_with_line_breaks_in_quotes() -> None:
    rows = read_csv_text('\ufeffprompt,response\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n3,\r\n')
    assert rows == [
        RawRow(0, 2, {"prompt": "1", "response": 'two\r\nlines, "quoted"'}),
        RawRow(1, 5, {"prompt": "3", "response": ""}),
    ]


def test_an_empty_csv_file_and_a_header_alone_are_no_rows() -> None:
    assert read_csv_text("") == read_csv_text("a,b\n") == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1", "the row has 1 cells, the header 2"),
        (b"1,2,3", "the row has 3 cells, the header 2"),
        (b"1,\xff", "not UTF-8"),
        (b'1,"2"3', "not CSV, look at its quotes"),
        (b'1,"never closed', "not CSV, look at its quotes"),
    ],
)
def test_a_bad_csv_row_says_why_and_the_next_ones_are_read(row: bytes, reason: str) -> None:
    before, bad, *after = read_csv_text(b"a,b\n0,0\n" + row + b'\n4,"4"\n5,5\n')
    assert before == RawRow(0, 2, {"a": "0", "b": "0"})
    assert (bad.position, bad.line) == (1, 3)
    assert reason in reason_of(bad)
    assert after == [RawRow(2, 4, {"a": "4", "b": "4"}), RawRow(3, 5, {"a": "5", "b": "5"})]


def test_a_csv_cell_may_be_of_20_megabytes() -> None:
    text = "x" * 20_000_000
    assert read_csv_text(f"a\n{text}\n") == [RawRow(0, 2, {"a": text})]


def test_skipped_csv_rows_keep_their_positions() -> None:
    assert read_csv_text("a\nx\ny\nz\n", {0, 1}.__contains__) == [RawRow(2, 4, {"a": "z"})]


@pytest.mark.parametrize(
    ("header", "message"),
    [(b"a,a", "names a column twice: a"), (b"a,\xff", "is not UTF-8"), (b'a,"b', "cannot be read")],
)
def test_a_header_that_cannot_be_used_is_an_error(header: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_csv_text(header + b"\n1,2\n")


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=2), max_size=8))
def test_whatever_is_written_as_csv_is_read_back(rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["a", "b"], *rows])
    assert read_csv_text(text.getvalue()) == [
        RawRow(position, row.line, {"a": rows[position][0], "b": rows[position][1]})
        for position, row in enumerate(read_csv_text(text.getvalue()))
    ]
    assert len(read_csv_text(text.getvalue())) == len(rows)


@given(st.binary())
def test_random_bytes_as_csv_never_raise_below_the_header(content: bytes) -> None:
    rows = read_csv_text(b"a,b\n" + content)
    assert [row.position for row in rows] == list(range(len(rows)))


# Sizes

TOO_LONG = b"x" * (LONGEST_ROW + 1)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("format_ending", "head", "row"), [(".jsonl", b"", b'{"a": "1"}\n'), (".csv", b"a\n", b"1\n")]
)
def test_a_row_that_is_too_long_is_rejected_and_the_others_read(
    tmp_path: Path, ending: str, format_ending: str, head: bytes, row: bytes
) -> None:
    path = tmp_path / f"rows{format_ending}{ending}"
    path.write_bytes({**COMPRESS, "": bytes}[ending](head + row + TOO_LONG + b"\n" + row + TOO_LONG))
    first, long, second, last = open_input(str(path)).rows()
    assert (first, second) == (RawRow(0, first.line, {"a": "1"}), RawRow(2, first.line + 2, {"a": "1"}))
    assert [reason_of(row) for row in (long, last)] == ["the row is longer than 32 MiB"] * 2


def test_a_row_of_many_lines_that_is_too_long_costs_only_its_first_line() -> None:
    line = b"x" * 65_533 + b",y\n"
    rows = read_csv_text(b'a,b\n1,"never closed\n' + line * (LONGEST_ROW // len(line) + 1))
    assert reason_of(rows[0]) == "the row is longer than 32 MiB"
    assert rows[1] == RawRow(1, 3, {"a": "x" * 65_533, "b": "y"})
    assert len(rows) == 2 + LONGEST_ROW // len(line)


def test_a_parquet_cell_that_is_too_long_is_a_rejected_row(tmp_path: Path) -> None:
    long = TOO_LONG.decode()
    path = write_parquet(tmp_path / "a.parquet", {"a": [["1"], ["2", long], ["3"]]}, compression="zstd")
    first, second, third = read_parquet_file(path)
    assert (first, third) == (RawRow(0, 1, {"a": ["1"]}), RawRow(2, 3, {"a": ["3"]}))
    assert reason_of(second) == "the row is longer than 32 MiB"


# Parquet


def write_parquet(path: Path, columns: dict[str, object], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read_parquet_file(path: Path, skip: Skip = skip_nothing) -> Iterator[Row]:
    return read_parquet(path, skip)


def test_parquet_rows_are_read_with_their_nested_values_across_row_groups(tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": str(number)}] for number in range(1000)]
    path = write_parquet(
        tmp_path / "a.parquet", {"messages": chats, "response": [None, *"x" * 999]}, row_group_size=300
    )
    rows = list(read_parquet_file(path))
    assert [row.position for row in rows] == list(range(1000))
    assert rows[0] == RawRow(0, 1, {"messages": chats[0], "response": None})
    assert rows[999] == RawRow(999, 1000, {"messages": chats[999], "response": "x"})


def test_skipped_parquet_rows_keep_their_positions(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"n": list(range(1000))}, row_group_size=400)
    rows = list(read_parquet_file(path, lambda position: position not in {3, 999}))
    assert rows == [RawRow(3, 4, {"n": 3}), RawRow(999, 1000, {"n": 999})]


def test_a_parquet_text_that_is_not_utf8_costs_only_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"one", b"\xff", b"three"]).view(pa.string())
    rows = list(read_parquet_file(write_parquet(tmp_path / "a.parquet", {"text": texts})))
    assert rows[0] == RawRow(0, 1, {"text": "one"})
    assert reason_of(rows[1]) == "not UTF-8: invalid start byte"
    assert rows[2] == RawRow(2, 3, {"text": "three"})


def test_a_damaged_row_group_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet",
        {"n": [f"text {number}" for number in range(300)]},
        row_group_size=100,
        compression="gzip",
        use_dictionary=False,
    )
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 100] = b"\xff" * 100
    path.write_bytes(content)
    rows = list(read_parquet_file(path))
    assert [row.position for row in rows] == [*range(101), *range(200, 300)]
    assert reason_of(rows[100]).startswith("rows 101 to 200 cannot be read")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 100, b'{"a": 1}\n'])
def test_what_is_not_parquet_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet is not a Parquet file"):
        open_parquet(path)


def test_parquet_without_pyarrow_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_parquet(tmp_path / "a.parquet")
    assert caught.value.hint == 'pip install "flip-reward[parquet]"'


TEXT = b"".join(b"line %d\n" % number for number in range(50_000))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}

both = pytest.mark.parametrize("ending", [".gz", ".zst"])


def write(tmp_path: Path, ending: str, content: bytes) -> Path:
    path = tmp_path / f"text{ending}"
    path.write_bytes(content)
    return path


def read_lines_until_damage(path: Path) -> tuple[list[bytes], str]:
    lines: list[bytes] = []
    with open_stream(path) as stream:
        try:
            lines.extend(stream)  # keeps what came before the error
        except DamagedStreamError as error:
            return lines, str(error)
    return lines, ""


def test_a_plain_file_is_read_as_it_is(tmp_path: Path) -> None:
    with open_stream(write(tmp_path, ".jsonl", TEXT)) as stream:
        assert stream.read() == TEXT


@both
def test_compressed_files_are_read_decompressed(tmp_path: Path, ending: str) -> None:
    with open_stream(write(tmp_path, ending, COMPRESS[ending](TEXT))) as stream:
        assert stream.read() == TEXT
        assert stream.read() == b""


@both
def test_several_compressed_streams_in_one_file_are_read_one_after_the_other(tmp_path: Path, ending: str) -> None:
    parts = [TEXT[:1000], b"", TEXT[1000:]]
    with open_stream(write(tmp_path, ending, b"".join(map(COMPRESS[ending], parts)))) as stream:
        assert stream.read() == TEXT


@both
def test_an_empty_file_has_no_content(tmp_path: Path, ending: str) -> None:
    with open_stream(write(tmp_path, ending, b"")) as stream:
        assert stream.read() == b""


def test_zeros_behind_gzip_data_are_padding(tmp_path: Path) -> None:
    with open_stream(write(tmp_path, ".gz", gzip.compress(TEXT) + b"\0" * 10_000)) as stream:
        assert stream.read() == TEXT


def test_skippable_zstd_frames_are_skipped(tmp_path: Path) -> None:
    skippable = (0x184D2A50).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"note"
    with open_stream(write(tmp_path, ".zst", skippable + zstandard.compress(TEXT))) as stream:
        assert stream.read() == TEXT


@both
@pytest.mark.parametrize("kept", [0.001, 0.5, 0.999])
def test_a_cut_off_file_gives_out_all_it_holds_and_then_says_so(tmp_path: Path, ending: str, kept: float) -> None:
    compressed = COMPRESS[ending](TEXT)
    lines, reason = read_lines_until_damage(write(tmp_path, ending, compressed[: int(len(compressed) * kept)]))
    assert "cut off" in reason
    assert TEXT.startswith(b"".join(lines))
    assert len(lines) >= 50_000 * kept * 0.5 - 6000  # a zstd block holds 128 KiB


@both
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_file_cut_off_in_its_first_bytes_is_noticed(tmp_path: Path, ending: str, size: int) -> None:
    lines, reason = read_lines_until_damage(write(tmp_path, ending, COMPRESS[ending](TEXT)[:size]))
    assert not lines
    assert "cut off" in reason


@both
def test_what_is_not_compressed_at_all_is_damaged(tmp_path: Path, ending: str) -> None:
    lines, reason = read_lines_until_damage(write(tmp_path, ending, TEXT))
    assert not lines
    assert "data is damaged here" in reason


def test_a_wrong_checksum_is_noticed_after_the_data(tmp_path: Path) -> None:
    compressed = bytearray(gzip.compress(TEXT))
    compressed[-6] ^= 1
    lines, reason = read_lines_until_damage(write(tmp_path, ".gz", bytes(compressed)))
    assert "data is damaged here" in reason
    assert TEXT.startswith(b"".join(lines))


def test_zstd_without_its_library_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_stream(write(tmp_path, ".zst", b""))
    assert caught.value.hint == 'pip install "flip-reward[zstd]"'
