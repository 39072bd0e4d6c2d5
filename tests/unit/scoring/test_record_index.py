from __future__ import annotations

import random
from pathlib import Path

import pytest

from flip_reward.core.score import Outcome, Score
from flip_reward.errors import RunError
from flip_reward.scoring.record_index import RecordIndex
from flip_reward.scoring.records import Record


def record(row: int, index: int = 0, value: float = 0.5, size: int = 1) -> Record:
    return Record(row, f"row-{row}", size, index, "Say it.", Score(value, Outcome.SCORED))


def write(path: Path, *records: Record) -> Path:
    path.write_bytes(b"".join(one.to_line() for one in records))
    return path


def test_records_are_found_in_any_order_and_the_last_one_counts(tmp_path: Path) -> None:
    records = [record(row, index, row / 100, size=3) for row in range(50) for index in range(3)]
    random.Random(1).shuffle(records)
    path = write(tmp_path / "records.jsonl", record(7, 1, 0.9, size=3), *records)
    path.write_bytes(path.read_bytes() + b'{"row": 7, "resp')
    with RecordIndex(path) as index:
        found = index.find(7, 1)
        assert found is not None
        assert found.score.value == 0.07
        assert (index.find(50, 0), index.find(7, 3), index.largest_group) == (None, None, 3)
        assert [(one.row, one.response_index) for one in index] == [(row, i) for row in range(50) for i in range(3)]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'{"row": 0}', b'{"row": -1, "response_index": 0, "group_size": 1}', b'{"row": "0"}']
)
def test_a_damaged_line_is_named_by_its_number(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "records.jsonl", record(0))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(RunError, match="line 2"):
        RecordIndex(path)


def test_a_record_that_is_no_score_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "records.jsonl", record(0))
    path.write_bytes(path.read_bytes() + record(1).to_line().replace(b'"reward":0.5', b'"reward":"high"'))
    with RecordIndex(path) as index, pytest.raises(RunError, match="line 2"):
        index.find(1, 0)


def test_a_folder_without_records_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        RecordIndex(tmp_path / "records.jsonl")
