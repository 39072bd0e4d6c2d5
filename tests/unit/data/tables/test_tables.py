from __future__ import annotations

import gzip
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
import zstandard

from flip_reward.core.score import Cost, Outcome, Score, Usage
from flip_reward.data.tables import check_output, write_table
from flip_reward.errors import MissingDependencyError, OptionError, StorageError
from flip_reward.scoring.records import Record, RecordLine

SCORED = Record(0, "0", 1, 0, "Name a fruit.", Score(0.5, Outcome.SCORED, 0.25, 1.0, cost=Cost(Usage(10, 3, 1))))
FAILED = Record(1, "é", 2, 1, "Say 🍎", Score(None, Outcome.EMPTY_REPLY, detail="the reply is empty"))
ROWS = [orjson.loads(record.to_line()) for record in (SCORED, FAILED)]


def make_rows(count: int) -> Iterator[dict[str, object]]:
    for number in range(count):
        yield {**ROWS[number % 2], "row": number}


def read_back(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().stream_reader(content).read()
    return [orjson.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst", "out.parquet", "OUT.JSONL"])
@pytest.mark.parametrize("count", [0, 2, 5000])
def test_rows_are_read_back_as_they_were_written_in_order(tmp_path: Path, name: str, count: int) -> None:
    path = tmp_path / name
    assert write_table(path, make_rows(count), RecordLine) == count
    assert read_back(path) == list(make_rows(count))
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_has_the_fields_of_a_record_in_their_order_and_rewards_may_be_null(tmp_path: Path) -> None:
    write_table(tmp_path / "out.parquet", iter(ROWS), RecordLine)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.names == list(ROWS[0])
    assert table["reward"].to_pylist() == [0.5, None]
    assert table["usage"].to_pylist()[0] == {"prompt_tokens": 10, "completion_tokens": 3, "cached_tokens": 1}


def test_an_empty_parquet_file_has_the_same_schema(tmp_path: Path) -> None:
    write_table(tmp_path / "none.parquet", [], RecordLine)
    write_table(tmp_path / "some.parquet", ROWS, RecordLine)
    assert pq.read_schema(tmp_path / "none.parquet") == pq.read_schema(tmp_path / "some.parquet")


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.jsonl.gz", "two.jsonl.gz"):
        write_table(tmp_path / name, ROWS, RecordLine)
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet", "out.csv", "out.tsv.zst", "out.xlsx"])
def test_when_the_rows_end_in_an_error_the_old_file_stays_and_nothing_else(tmp_path: Path, name: str) -> None:
    def fail() -> Iterator[dict[str, object]]:
        yield from make_rows(5000)
        raise KeyboardInterrupt

    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_table(path, fail(), RecordLine)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_a_full_disk_is_said_and_nothing_is_left_behind(tmp_path: Path, name: str) -> None:
    def random_rows() -> Iterator[dict[str, object]]:
        for row in make_rows(5000):
            yield {**row, "raw_reply": os.urandom(200).hex()}

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StorageError, match=f"{name}: File too large"):
            write_table(tmp_path / name, random_rows(), RecordLine)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real" / "rows.jsonl")
    write_table(link, ROWS, RecordLine)
    assert link.is_symlink()
    assert read_back(tmp_path / "real" / "rows.jsonl") == ROWS


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_table(tmp_path / "out.jsonl", ROWS, RecordLine)
    assert (tmp_path / "out.jsonl").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("name", ["out.txt", "out", "out.json", "out.parquet.gz"])
def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_output(tmp_path / name)
    assert ".csv, .tsv, .jsonl.gz" in str(caught.value.hint)


def test_a_missing_folder_is_found_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing"):
        check_output(tmp_path / "missing" / "out.jsonl")


def test_a_folder_in_the_place_of_the_file_is_found_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(StorageError, match="folder"):
        check_output(tmp_path / "out.jsonl")


def test_a_name_that_no_file_can_have_is_found_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        check_output(tmp_path / f"{'x' * 300}.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_found_before_the_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="not writable"):
        check_output(tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("ending", "library", "extra"),
    [(".parquet", "pyarrow", "parquet"), (".xlsx", "openpyxl", "xlsx"), (".csv.zst", "zstandard", "zstd")],
)
def test_a_missing_library_is_found_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError) as caught:
        check_output(tmp_path / f"out{ending}")
    assert caught.value.hint == f'pip install "flip-reward[{extra}]"'


def test_a_good_output_is_not_touched_by_the_check(tmp_path: Path) -> None:
    check_output(tmp_path / "out.parquet")
    assert not list(tmp_path.iterdir())
