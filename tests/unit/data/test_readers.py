from __future__ import annotations

import gc
import gzip
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from datasets import Dataset, DatasetDict

from flip_reward.data.readers import FORMATS, INPUTS, Input, InvalidRow, RawRow, open_input
from flip_reward.errors import DataError, OptionError

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
        ("rows.txt", b"a|b\n1|2\n3|4\n"),
        ("rows.json.gz", gzip.compress(json.dumps(VALUES).encode(), mtime=0)),
        ("array.json", json.dumps(VALUES).encode()),
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
    assert source.size_hint == (
        None if name.endswith((".gz", ".zst", "csv", "tsv", "txt")) or name.startswith("array") else 2
    )


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
        open_bytes(tmp_path, "rows.csv", b"a,a\n1,2\n")


@pytest.mark.parametrize(
    "content",
    [
        JSON_LINES,
        gzip.compress(JSON_LINES, mtime=0),
        zstandard.compress(JSON_LINES),
        json.dumps(VALUES, indent=1).encode(),
        b"a;b\n1;2\n3;4\n",
        "a,b\n1,2\n3,4\n".encode("utf-16"),
        write_parquet(),
    ],
)
def test_standard_input_is_kept_and_its_format_found_out(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    source = open_input("-")
    for _ in range(2):
        assert [row.values for row in source.rows() if isinstance(row, RawRow)] == VALUES
    assert (source.name, source.fingerprint()) == ("stdin", hashlib.sha256(content).hexdigest())


def test_the_copy_of_standard_input_goes_with_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(JSON_LINES)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = open_input("-")
    assert len(list(tmp_path.iterdir())) == 1
    assert len(list(source.rows())) == 2
    del source
    gc.collect()
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("name", ["rows.doc", "rows", "rows.gz", "rows.parquet.gz", "rows.jsonl.bz2"])
def test_an_unknown_format_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="format") as caught:
        open_bytes(tmp_path, name, JSON_LINES)
    assert caught.value.hint is not None
    assert "formats are .jsonl, .ndjson, .json, .csv, .tsv, .txt, .xlsx" in caught.value.hint


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "year=2" / "_temporary").mkdir(parents=True)
    (tmp_path / "b.jsonl").write_bytes(JSON_LINES + b"!\n")
    (tmp_path / "a.jsonl").write_bytes(JSON_LINES)
    (tmp_path / "year=2" / "c.jsonl").write_bytes(JSON_LINES)
    for name in ("_SUCCESS", ".a.jsonl.crc", "README.md", "year=2/_temporary/d.jsonl"):
        (tmp_path / name).write_bytes(JSON_LINES)
    source = open_input(str(tmp_path))
    rows = list(source.rows())
    assert [row.values if isinstance(row, RawRow) else row.reason for row in rows] == [
        *VALUES,
        *VALUES,
        "b.jsonl, line 3: not JSON: Expecting value at column 1",
        *VALUES,
    ]
    assert [row.position for row in rows] == list(range(7))
    assert [row.position for row in source.rows(lambda position: position not in {1, 6})] == [1, 6]
    assert (source.name, source.size_hint, source.remark) == (tmp_path.name, 7, "3 files (not README.md)")


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a.jsonl", "b.jsonl"):
            (tmp_path / folder / name).write_bytes(JSON_LINES)
    one, two = (open_input(str(tmp_path / folder)).fingerprint() for folder in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "b.jsonl").write_bytes(JSON_LINES + b"{}\n")
    assert open_input(str(tmp_path / "two")).fingerprint() != one


def test_a_pattern_names_files_of_one_folder(tmp_path: Path) -> None:
    for name in ("part-1.jsonl", "part-2.jsonl", "other.csv"):
        (tmp_path / name).write_bytes(JSON_LINES)
    source = open_input(f"{tmp_path}/part-*.jsonl")
    assert (source.name, len(list(source.rows()))) == (tmp_path.name, 4)
    with pytest.raises(DataError, match="no file matches"):
        open_input(f"{tmp_path}/*.parquet")


def test_a_folder_of_several_formats_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(JSON_LINES)
    (tmp_path / "b.csv").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DataError, match=r"several formats: 1 \.csv, 1 \.jsonl") as caught:
        open_input(str(tmp_path))
    assert caught.value.hint == f"name one of them: '{tmp_path}/**/*.csv'"
    assert len(list(open_input(f"{tmp_path}/**/*.csv").rows())) == 1


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file that can be read"):
        open_input(str(tmp_path))


def test_a_saved_data_set_is_read_in_its_own_order(tmp_path: Path) -> None:
    Dataset.from_list(VALUES * 100).save_to_disk(str(tmp_path / "saved"), num_shards=12)
    rows = list(open_input(str(tmp_path / "saved")).rows())
    assert [row.values for row in rows if isinstance(row, RawRow)] == VALUES * 100


def test_a_saved_data_set_with_several_splits_asks_for_one(tmp_path: Path) -> None:
    splits = {"train": Dataset.from_list(VALUES), "test": Dataset.from_list(VALUES[:1])}
    DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="several splits: train, test") as caught:
        open_input(str(tmp_path / "saved"))
    assert caught.value.hint == f"name one: {tmp_path / 'saved'}:train"
    assert len(list(open_input(f"{tmp_path / 'saved'}:test").rows())) == 1
    with pytest.raises(DataError, match="no split 'dev'"):
        open_input(f"{tmp_path / 'saved'}:dev")


def test_a_pipe_is_not_opened_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="not a regular file") as caught:
        open_input(str(tmp_path / "rows.jsonl"))
    assert caught.value.hint == 'name a file, or pipe rows into "-"'


def test_a_name_that_no_file_can_have_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="File name too long"):
        open_input(f"{'x' * 300}.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_a_file_that_may_not_be_read_is_a_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch(mode=0)
    with pytest.raises(DataError, match="Permission denied"):
        open_input(str(tmp_path / name))


def test_a_text_in_another_encoding_is_read_as_the_user_says(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("a;b\nÄpfel;für 3 €\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"rows\.csv is not UTF-8: byte 0xc4 in line 2") as caught:
        open_input(str(tmp_path / "rows.csv"))
    assert "--encoding cp1252" in str(caught.value.hint)
    source = open_input(str(tmp_path / "rows.csv"), encoding="cp1252")
    assert list(source.rows()) == [RawRow(0, 2, {"a": "Äpfel", "b": "für 3 €"})]
    assert source.fingerprint() != open_input(str(tmp_path / "rows.csv"), encoding="latin-1").fingerprint()


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13"])
def test_an_unknown_encoding_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.csv").write_bytes(b"a\n1\n")
    with pytest.raises(OptionError, match=name):
        open_input(str(tmp_path / "rows.csv"), encoding=name)


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


def test_the_pages_name_every_format() -> None:
    page = Path("docs/scoring.md").read_text(encoding="utf-8")
    assert [ending for ending in FORMATS if f"`{ending}`" not in page] == []
    assert all(ending in INPUTS for ending in FORMATS)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"PK\x03\x04rest", "xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "xls"),
        (write_parquet(), "parquet"),
        (b"ARROW1\0\0", "arrow"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "gz"),
        (zstandard.compress(b"a,b\n1,2\n"), "zst"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_what_is_no_text_is_called_by_its_name(tmp_path: Path, name: str, content: bytes, named: str) -> None:
    with pytest.raises(DataError, match=rf"{name} is no text but .*\.{named}\b"):
        open_bytes(tmp_path, name, content)


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv.zst"])
def test_a_table_that_is_not_compressed_as_its_name_says_is_no_empty_one(tmp_path: Path, name: str) -> None:
    [row] = open_bytes(tmp_path, name, b"instruction,response\nHi,Hello\n").rows()
    assert isinstance(row, InvalidRow)
    assert "damaged" in row.reason


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match="empty"):
        open_input(name)


def test_a_link_to_nowhere_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").symlink_to("elsewhere.csv")
    with pytest.raises(DataError, match=r"link to elsewhere\.csv"):
        open_input(str(tmp_path / "rows.csv"))


@pytest.mark.parametrize("pattern", ["", "/*", "/**"])
def test_the_pattern_offered_for_one_of_several_formats_finds_its_files(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.jsonl").write_text('{"a": 2}\n')
    with pytest.raises(DataError, match="several formats") as caught:
        open_input(f"{tmp_path}{pattern}")
    [row] = open_input(str(caught.value.hint).split("'")[1]).rows()
    assert isinstance(row, RawRow)
    assert row.values == {"a": "1"}
