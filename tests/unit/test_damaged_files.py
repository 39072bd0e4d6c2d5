"""Files that were cut off or had bytes changed: read as far as they can be, or a clear error, never anything else."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from flip_reward.core.score import Cost, Outcome, Score, Usage
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.errors import DataError, FlipRewardError
from flip_reward.scoring.records import Record
from tests.damaged_files import KINDS, damaged_folders


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    _, read = KINDS[kind]
    refusals = []
    for folder in damaged_folders(kind, tmp_path, 150):
        try:
            read(folder)
        except FlipRewardError as error:
            refusals.append(str(error))
    read(tmp_path / "whole")
    assert refusals, "no damage was ever noticed"


def test_a_count_that_is_far_too_large_is_not_believed(tmp_path: Path) -> None:
    huge = 2**60
    heads = {
        "keys": struct.pack("<IQQ", 3, 0, huge),
        "tensors": struct.pack("<IQQ", 3, huge, 0),
        "numbers": struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 4, huge),
        "texts": struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 8, huge),
        "arrays": struct.pack("<IQQQ1s", 3, 0, 1, 1, b"k") + struct.pack("<IIQ", 9, 9, 1) * 10_000,
        "text": struct.pack("<IQQQ1sIQ", 3, 0, 1, 1, b"k", 8, huge),
    }
    for name, head in heads.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(b"GGUF" + head)
        for arrays in ((), ("k",)):
            with pytest.raises(DataError, match="damaged"):
                GgufFile.read(path, arrays=arrays)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("row", -1),
        ("row", 10**18),
        ("row", "1"),
        ("group_size", 0),
        ("response_index", 1),
        ("reward", "0.5"),
        ("usage", 7),
    ],
)
def test_a_record_with_an_impossible_value_is_damaged(name: str, value: object) -> None:
    whole = Record(3, "row-3", 1, 0, "Hi", Score(0.5, Outcome.SCORED, cost=Cost(Usage(1, 2, 3))))
    fields = {**json.loads(whole.to_line()), name: value}
    with pytest.raises(ValueError, match=r"."):
        Record.from_line(json.dumps(fields).encode())
