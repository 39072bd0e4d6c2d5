from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flip_reward.data.formats.columnar import open_arrow, open_parquet
from flip_reward.data.readers import open_input
from flip_reward.data.rows import RawRow, Row, Skip, skip_nothing
from flip_reward.data.storage import LocalFile
from flip_reward.errors import DataError, MissingDependencyError
from tests.unit.data.formats.rows import reason_of


def write_parquet(path: Path, columns: dict[str, object], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read_parquet_file(path: Path, skip: Skip = skip_nothing) -> Iterator[Row]:
    return open_parquet(LocalFile(path)).rows(skip)


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


def test_a_date_that_python_does_not_have_costs_only_its_row(tmp_path: Path) -> None:
    days = pa.array([0, 9_999_999, None], pa.date32())
    first, second, third = read_parquet_file(write_parquet(tmp_path / "a.parquet", {"day": days}))
    assert first == RawRow(0, 1, {"day": date(1970, 1, 1)})
    assert "cannot be read" in reason_of(second)
    assert third == RawRow(2, 3, {"day": None})


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_two_columns_with_one_name_are_an_error(tmp_path: Path, name: str) -> None:
    table = pa.Table.from_arrays([pa.array(["one"]), pa.array(["two"])], names=["text", "text"])
    if name == "a.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        write_arrow(tmp_path / name, table, stream=True)
    with pytest.raises(DataError, match="twice: text"):
        open_input(str(tmp_path / name))


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
        open_parquet(LocalFile(path))


def test_parquet_without_pyarrow_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_parquet(LocalFile(tmp_path / "a.parquet"))
    assert caught.value.hint == 'pip install "flip-reward[parquet]"'


# Arrow

TABLE = pa.table({"n": list(range(1000)), "text": [f"text {number}" for number in range(1000)]})


def write_arrow(path: Path, table: pa.Table, *, stream: bool) -> Path:
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(path, table.schema) as writer:
        writer.write_table(table)
    return path


both = pytest.mark.parametrize("stream", [False, True])


@both
def test_arrow_files_are_read_in_either_layout(tmp_path: Path, *, stream: bool) -> None:
    source = open_arrow(LocalFile(write_arrow(tmp_path / "a.arrow", TABLE, stream=stream)))
    for _ in range(2):
        rows = list(source.rows())
        assert [row.position for row in rows] == list(range(1000))
        assert rows[-1] == RawRow(999, 1000, {"n": 999, "text": "text 999"})
    assert list(source.rows(lambda position: position != 700)) == [RawRow(700, 701, {"n": 700, "text": "text 700"})]


@both
def test_an_arrow_text_that_is_not_utf8_costs_only_its_row(tmp_path: Path, *, stream: bool) -> None:
    texts = pa.array([b"one", b"\xff", b"three"]).view(pa.string())
    path = write_arrow(tmp_path / "a.arrow", pa.table({"text": texts}), stream=stream)
    first, second, third = open_arrow(LocalFile(path)).rows()
    assert (first, third) == (RawRow(0, 1, {"text": "one"}), RawRow(2, 3, {"text": "three"}))
    assert "UTF8" in reason_of(second)


def test_an_arrow_stream_that_is_cut_off_ends_with_a_rejected_row(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *good, last = open_arrow(LocalFile(path)).rows()
    assert len(good) >= 300
    assert last.position == len(good)
    assert "cannot be read" in reason_of(last)


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"ARROW1" * 100, b'{"a": 1}\n'])
def test_what_is_not_arrow_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.arrow"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.arrow is not an Arrow file"):
        open_arrow(LocalFile(path))
