from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from flip_reward.data.formats.limits import LONGEST_ROW
from flip_reward.data.hub import HubName, open_rows
from flip_reward.data.readers import open_input
from flip_reward.data.rows import RawRow, Row
from tests.unit.data.formats.rows import reason_of

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def read_bytes(tmp_path: Path, name: str, content: bytes) -> list[Row]:
    path = tmp_path / name
    path.write_bytes(content)
    return list(open_input(str(path)).rows())


TOO_LONG = b"x" * (LONGEST_ROW + 1)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("format_ending", "head", "row"), [(".jsonl", b"", b'{"a": "1"}\n'), (".csv", b"a\n", b"1\n")]
)
def test_a_row_that_is_too_long_is_rejected_and_the_others_read(
    tmp_path: Path, ending: str, format_ending: str, head: bytes, row: bytes
) -> None:
    content = COMPRESS[ending](head + row + TOO_LONG + b"\n" + row + TOO_LONG)
    first, long, second, last = read_bytes(tmp_path, f"rows{format_ending}{ending}", content)
    assert (first, second) == (RawRow(0, first.line, {"a": "1"}), RawRow(2, first.line + 2, {"a": "1"}))
    assert [reason_of(row) for row in (long, last)] == ["the row is longer than 32 MiB"] * 2


def test_a_row_of_many_lines_that_is_too_long_costs_only_its_first_line(tmp_path: Path) -> None:
    line = b"x" * 65_533 + b",y\n"
    rows = read_bytes(tmp_path, "rows.csv", b'a,b\n1,"never closed\n' + line * (LONGEST_ROW // len(line) + 1))
    assert reason_of(rows[0]) == "the row is longer than 32 MiB"
    assert rows[1] == RawRow(1, 3, {"a": "x" * 65_533, "b": "y"})
    assert len(rows) == 2 + LONGEST_ROW // len(line)


def test_a_parquet_cell_that_is_too_long_is_a_rejected_row(tmp_path: Path) -> None:
    long = TOO_LONG.decode()
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [["1"], ["2", long], ["3"]]}), path, compression="zstd")
    first, second, third = open_input(str(path)).rows()
    assert (first, third) == (RawRow(0, 1, {"a": ["1"]}), RawRow(2, 3, {"a": ["3"]}))
    assert reason_of(second) == "the row is longer than 32 MiB"


def test_a_row_of_a_data_set_on_the_hub_that_is_too_long_is_rejected() -> None:
    name = HubName("owner/name", "0123abc", None, "train")
    first, long, last = open_rows(name, [{"a": "1"}, {"a": [TOO_LONG.decode()]}, {"a": "3"}]).rows()
    assert (first, last) == (RawRow(0, 1, {"a": "1"}), RawRow(2, 3, {"a": "3"}))
    assert reason_of(long) == "the row is longer than 32 MiB"


def test_an_array_ends_where_an_item_is_too_long(tmp_path: Path) -> None:
    first, long = read_bytes(tmp_path, "rows.json", b'[{"a": "1"}, {"a": "' + TOO_LONG * 2 + b'"}, {"a": "3"}]')
    assert first == RawRow(0, 1, {"a": "1"})
    assert reason_of(long) == "the row is longer than 32 MiB; nothing after it is read"
