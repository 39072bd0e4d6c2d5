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


# What is found out

FOUND: dict[str, tuple[str, list[dict[str, str]]]] = {
    "semicolons": ("a;b\n1,5;x, y\n2,5;z\n", [{"a": "1,5", "b": "x, y"}, {"a": "2,5", "b": "z"}]),
    "tabs": ("a\tb\n1, 2\t3\n", [{"a": "1, 2", "b": "3"}]),
    "bars": ("a|b|c\n1|2, 3|4\n", [{"a": "1", "b": "2, 3", "c": "4"}]),
    "commas with semicolons in the texts": (
        "a,b\n1;2;3,x\n4;5;6,y\n",
        [{"a": "1;2;3", "b": "x"}, {"a": "4;5;6", "b": "y"}],
    ),
    "a header with both": ("a, b;c\n1;2\n3;4\n", [{"a, b": "1", "c": "2"}, {"a, b": "3", "c": "4"}]),
    "a delimiter in quotes": ('"a;b",c\n1,"2;3"\n', [{"a;b": "1", "c": "2;3"}]),
    "one column": ("text\nHello there; you\n", [{"text": "Hello there; you"}]),
    "rows that lack their last cells": (
        "a;b;c\n1;2\n3;4\n",
        [{"a": "1", "b": "2", "c": ""}, {"a": "3", "b": "4", "c": ""}],
    ),
    "a line that names it": ("sep=|\na|b,c\n1|2,3\n", [{"a": "1", "b,c": "2,3"}]),
    "a line that names it in quotes": ('"sep=;"\r\na;b\r\n1;2\r\n', [{"a": "1", "b": "2"}]),
    "empty columns at the end": ("a,b,,\n1,2,,\n3,4\n", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
    "an empty column in the middle": ("a,,b\n1,,2\n", [{"a": "1", "b": "2"}]),
    "a column of numbers without a name": (",a,b\n0,1,2\n", [{"": "0", "a": "1", "b": "2"}]),
    "two columns without names": (",,a\n0,1,2\n", [{"": "0", "column 2": "1", "a": "2"}]),
    "a second column of a name without content": ("a,b,a\n1,2,\n", [{"a": "1", "b": "2"}]),
    "rows without text": ("a,b\n,\n\n1,2\n,,,\n", [{"a": "1", "b": "2"}]),
    "cells without text behind the last column": ("a,b\n1,2,,\n", [{"a": "1", "b": "2"}]),
    "line ends of old Macs": ("a,b\r1,2\r3,4\r", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
    "zero bytes": ("a,b\n1,x\0y\n", [{"a": "1", "b": "x\0y"}]),
}


@pytest.mark.parametrize("kind", FOUND)
def test_how_a_table_is_written_is_found_out(kind: str) -> None:
    text, expected = FOUND[kind]
    assert [row.values if isinstance(row, RawRow) else row.reason for row in read_csv_text(text)] == expected


def test_text_in_a_column_that_was_left_out_is_a_rejected_row() -> None:
    rows = read_csv_text("a,b,\n" + "1,2,\n" * 200 + "3,4,5\n")
    assert len(rows) == 201
    assert reason_of(rows[-1]) == "there is text in column 3, which has no name of its own"


def test_a_quoted_cell_longer_than_what_is_looked_at_is_no_row_of_its_own() -> None:
    long = "one;two\n" * 20_000
    rows = read_csv_text(f'a,b\n1,"{long}"\n2,x\n')
    assert rows == [RawRow(0, 2, {"a": "1", "b": long}), RawRow(1, 20_003, {"a": "2", "b": "x"})]


CELLS = st.text('ab,;|\t"\n ', min_size=1)


@given(
    st.sampled_from([",", ";", "\t", "|"]),
    st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=6),
)
def test_a_delimiter_that_no_name_of_the_header_holds_is_found(delimiter: str, rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([["a", "b", "c"], *rows])
    found = [row.values for row in read_csv_text(text.getvalue()) if isinstance(row, RawRow)]
    assert found == [dict(zip("abc", row, strict=True)) for row in rows]
