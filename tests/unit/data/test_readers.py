from __future__ import annotations

import gzip
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from flip_reward.data.readers import Input, InvalidRow, RawRow, open_input
from flip_reward.errors import DataError

JSON_LINES = b'{"a": "1", "b": "2"}\n{"a": "3", "b": "4"}\n'
VALUES = [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def write_parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(VALUES), file)
    return file.getvalue()


def open_bytes(tmp_path: Path, name: str, content: bytes) -> Input:
    path = tmp_path / name
    path.write_bytes(content)
    return open_input(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", JSON_LINES),
        ("rows.ndjson", JSON_LINES),
        ("rows.json", JSON_LINES),
        ("ROWS.JSONL", JSON_LINES),
        (
            "v1.2.rows.jsonl.gz",
            gzip.compress(JSON_LINES, mtime=0),
        ),  # a time would make the test another one each time
        ("rows.jsonl.zst", zstandard.compress(JSON_LINES)),
        ("rows.csv", b"a,b\n1,2\n3,4\n"),
        ("rows.csv.gz", gzip.compress(b"a,b\n1,2\n3,4\n", mtime=0)),
        ("rows.tsv", b"a\tb\n1\t2\n3\t4\n"),
        ("rows.parquet", write_parquet()),
    ],
)
def test_every_format_yields_the_same_rows_as_often_as_asked(tmp_path: Path, name: str, content: bytes) -> None:
    source = open_bytes(tmp_path, name, content)
    for _ in range(2):
        rows = list(source.rows())
        assert [row.values for row in rows if isinstance(row, RawRow)] == VALUES
        assert [row.position for row in rows] == [0, 1]
    assert [row.position for row in source.rows({0}.__contains__)] == [1]
    assert source.name == name
    assert source.fingerprint() == hashlib.sha256(content).hexdigest()
    assert source.size_hint == (None if name.endswith((".gz", ".zst", "csv", "tsv")) else 2)


def test_the_same_content_in_another_folder_has_the_same_identity(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    one = open_bytes(tmp_path, "rows.jsonl", JSON_LINES)
    other = open_bytes(tmp_path / "x", "rows.jsonl", JSON_LINES)
    changed = open_bytes(tmp_path / "x", "more.jsonl", JSON_LINES + b"{}")
    assert (one.name, one.fingerprint()) == (other.name, other.fingerprint())
    assert one.fingerprint() != changed.fingerprint()


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_cut_off_compressed_file_ends_with_a_rejected_row(tmp_path: Path, ending: str, compress: object) -> None:
    assert callable(compress)
    content = b"".join(b'{"a": "%s"}\n' % os.urandom(50).hex().encode() for _ in range(5000))
    compressed = compress(content)
    *good, last = open_bytes(tmp_path, f"rows.jsonl{ending}", compressed[: len(compressed) // 2]).rows()
    assert len(good) > 1000
    assert all(isinstance(row, RawRow) for row in good)
    assert isinstance(last, InvalidRow)
    assert (last.position, last.line) == (len(good), len(good) + 1)
    assert "cut off" in last.reason


@pytest.mark.parametrize("ending", [".jsonl.gz", ".json.gz", ".jsonl.zst"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_one_rejected_row(tmp_path: Path, ending: str) -> None:
    [row] = open_bytes(tmp_path, f"rows{ending}", JSON_LINES).rows()
    assert isinstance(row, InvalidRow)
    assert "data is damaged here" in row.reason


def test_a_cut_off_compressed_csv_file_ends_with_a_rejected_row(tmp_path: Path) -> None:
    content = b"a\n" + b"".join(b"%s\n" % os.urandom(50).hex().encode() for _ in range(5000))
    *good, last = open_bytes(tmp_path, "rows.csv.gz", gzip.compress(content)[:100_000]).rows()
    assert len(good) > 500
    assert isinstance(last, InvalidRow)
    assert (last.position, last.line) == (len(good), len(good) + 2)


def test_a_csv_file_without_a_usable_header_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.csv: the header names a column twice"):
        list(open_bytes(tmp_path, "rows.csv", b"a,a\n1,2\n").rows())


def test_standard_input_is_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(JSON_LINES)))
    source = open_input("-")
    assert [row.position for row in source.rows()] == [0, 1]
    assert (source.name, source.fingerprint(), source.size_hint) == ("stdin", None, None)


def test_a_missing_file_names_the_near_ones(tmp_path: Path) -> None:
    (tmp_path / "responses.jsonl").touch()
    (tmp_path / "unrelated.csv").touch()
    with pytest.raises(DataError, match=r"there is no file .*respones\.jsonl") as caught:
        open_input(str(tmp_path / "respones.jsonl"))
    assert caught.value.hint == f"near names in {tmp_path}: responses.jsonl"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_input(str(tmp_path / "missing" / "rows.jsonl"))
    assert caught.value.hint == f"there is no folder {tmp_path / 'missing'} either"


def test_a_name_in_a_folder_that_exists_is_a_file_and_not_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    with pytest.raises(DataError, match="owner/name") as caught:
        open_input("owner/name")
    assert caught.value.hint == "for a data set on the hub, write hf://datasets/owner/name"


def test_a_missing_file_in_a_missing_folder_is_no_data_set_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there is no file data/rows\.jsonl"):
        open_input("data/rows.jsonl")


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.gz", "rows.parquet.gz", "rows.jsonl.bz2"])
def test_an_unknown_format_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="format") as caught:
        open_bytes(tmp_path, name, JSON_LINES)
    assert caught.value.hint is not None
    assert ".jsonl, .ndjson, .json, .csv, .tsv, .parquet" in caught.value.hint


def test_a_folder_is_not_an_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        open_input(str(tmp_path))


def test_a_pipe_is_not_opened_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="not a regular file") as caught:
        open_input(str(tmp_path / "rows.jsonl"))
    assert caught.value.hint == 'name a file, or pipe JSON lines into "-"'


def test_a_name_that_no_file_can_have_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="File name too long"):
        open_input(f"{'x' * 300}.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_a_file_that_may_not_be_read_is_a_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch(mode=0)
    with pytest.raises(DataError, match="Permission denied"):
        open_input(str(tmp_path / name))


def test_a_json_array_is_told_from_json_lines(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds one JSON array") as caught:
        open_bytes(tmp_path, "rows.json", b'\n [\n  {"a": 1}\n]\n')
    assert caught.value.hint == "jq -c '.[]' rows.json > rows.jsonl"


def test_a_file_that_disappears_is_a_clear_error(tmp_path: Path) -> None:
    source = open_bytes(tmp_path, "rows.jsonl", JSON_LINES)
    (tmp_path / "rows.jsonl").unlink()
    for read in (lambda: list(source.rows()), source.fingerprint):
        with pytest.raises(DataError, match="there is no file"):
            read()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_a_reader_that_stops_early_closes_the_file(tmp_path: Path) -> None:
    def count_open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    source = open_bytes(tmp_path, "rows.jsonl.gz", gzip.compress(JSON_LINES))
    before = count_open_files()
    rows = source.rows()
    assert isinstance(rows, Iterator)
    next(rows)
    assert count_open_files() == before + 1
    del rows
    assert count_open_files() == before
