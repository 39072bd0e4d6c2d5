from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.formats.delimited import DelimitedLayout, read_delimited
from flip_reward.data.formats.text import HEAD_BYTES
from flip_reward.data.rows import RawRow, Row, Skip, skip_nothing
from flip_reward.errors import DataError
from tests.unit.data.formats.rows import reason_of


def read_csv_text(content: str | bytes, skip: Skip = skip_nothing) -> list[Row]:
    data = content if isinstance(content, bytes) else content.encode()
    return list(read_delimited(io.BytesIO(data), skip, DelimitedLayout.find(data[:HEAD_BYTES])))


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


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=2), max_size=8))
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
