"""What is selected is written in every format, and given back as the kind of table that it was."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from flip_reward import select_rows
from flip_reward.data.readers import open_input
from flip_reward.data.rows import RawRow
from flip_reward.data.tables import FORMATS
from flip_reward.errors import DataError, OptionError
from flip_reward.selection.training import Selected, Wanted, select_file

ROWS: list[dict[str, object]] = [
    {"prompt": "p", "response": "- one", "reward": 0.25, "left_out": "mine"},
    {"prompt": "q", "response": "two", "reward": None, "left_out": "mine"},
    {"prompt": "p", "response": "three", "reward": 0.75, "left_out": "mine"},
]


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    path = tmp_path / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "broken\n")
    return path


@pytest.mark.parametrize("ending", FORMATS)
def test_both_files_in_every_format(scored: Path, ending: str) -> None:
    kept, rest = scored.with_name(f"kept{ending}"), scored.with_name(f"rest{ending}")
    selected = select_file([str(scored)], Wanted(best_of_group=True), kept, rest)
    unreadable = "a row that cannot be read (scored.jsonl, line 4: not JSON: Expecting value at column 1)"
    reasons = {"not scored": 1, "not the best of its group": 1, unreadable: 1}
    assert selected == Selected(1, reasons, [])
    [row] = open_input(str(kept)).rows()
    assert isinstance(row, RawRow)
    assert {name: str(value) for name, value in row.values.items()} == {
        name: str(value) for name, value in ROWS[2].items()
    }
    found = [row.values for row in open_input(str(rest)).rows() if isinstance(row, RawRow)]
    assert [row.get("flip_left_out") or row.get("left_out") for row in found] == [
        "not the best of its group",
        "not scored",
        "a row that cannot be read",
    ]
    assert found[2]["detail"]


@pytest.mark.parametrize("ending", [".csv", ".tsv.gz", ".xlsx", ".parquet"])
@pytest.mark.parametrize(
    ("wanted", "columns"),
    [
        (Wanted(threshold=2.0), [*ROWS[0]]),
        (Wanted(pairs=True, margin=2.0), ["prompt", "chosen", "rejected", "reward_chosen", "reward_rejected"]),
    ],
)
def test_a_selection_of_nothing_has_its_columns(
    scored: Path, wanted: Wanted, columns: list[str], ending: str
) -> None:
    kept, rest = scored.with_name(f"kept{ending}"), scored.with_name(f"rest{ending}")
    scored.write_text(json.dumps(ROWS[0]))
    assert select_file([str(scored)], wanted, kept).kept == 0
    select_file([str(scored)], Wanted(top=1.0), rest, kept_out := scored.with_name(f"out{ending}"))
    assert read_header(kept) == columns
    assert read_header(kept_out) == [*ROWS[0], "flip_left_out"]


def read_header(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return list(pq.read_schema(path).names)
    if path.suffix == ".xlsx":
        return list(pd.read_excel(path).columns)
    return list(pd.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",").columns)


def test_types_of_a_parquet_file_stay(tmp_path: Path) -> None:
    schema = pa.schema(
        [("prompt", pa.string()), ("response", pa.string()), ("n", pa.int16()), ("reward", pa.float32())]
    )
    table = pa.table([["p", "q"], ["a", "b"], [1, 2], [0.5, 0.25]], schema=schema)
    pq.write_table(table, tmp_path / "scored.parquet")
    select_file([str(tmp_path / "scored.parquet")], Wanted(top=0.5), tmp_path / "kept.parquet")
    assert pq.read_schema(tmp_path / "kept.parquet").equals(schema)


def test_an_input_is_never_overwritten(tmp_path: Path, scored: Path) -> None:
    for source in (scored, tmp_path, tmp_path / "*.jsonl"):
        with pytest.raises(OptionError, match="overwritten"):
            select_file([str(source)], Wanted(top=0.5), tmp_path / "x.jsonl", scored)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "--top"),
        ({"top": 1.5}, "--top"),
        ({"top": 0.5, "margin": 0.1}, "--pairs"),
        ({"top": 0.5, "pairs": True}, "one"),
    ],
)
def test_exactly_one_way(options: dict[str, float], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Wanted(**options)  # type: ignore[arg-type]  # mistakes


@pytest.mark.parametrize(
    "make", [pd.DataFrame, pl.from_dicts, Dataset.from_list], ids=["pandas", "polars", "datasets"]
)
def test_tables_come_back_as_their_kind(make: object) -> None:
    table = make(ROWS)  # type: ignore[operator]  # three libraries
    kept = select_rows(table, threshold=0.5)
    assert type(kept) is type(table)
    assert list(kept["response"]) == ["three"]
    pairs = select_rows(table, pairs=True)
    assert type(pairs) is type(table)
    assert (list(pairs["chosen"]), list(pairs["rejected"])) == (["three"], ["- one"])
    no_pairs, no_rows = select_rows(table, pairs=True, margin=0.9), select_rows(table, threshold=0.9)
    for nothing, names in ((no_pairs, pairs), (no_rows, table)):
        assert type(nothing) is type(table)
        assert (nothing.shape[0], list_columns(nothing)) == (0, list_columns(names))


def list_columns(table: Any) -> list[str]:
    return list(table.column_names if isinstance(table, Dataset) else table.columns)


def test_of_rows_with_several_responses_nothing_has_columns_too() -> None:
    table = pl.DataFrame({"prompt": ["p"], "responses": [["a", "b"]], "reward": [[0.5, 0.25]]})
    assert select_rows(table, threshold=2.0).columns == select_rows(table, threshold=0.0).columns


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"toop": 0.5}, "did you mean 'top'"),
        ({"top": "0.5"}, "--top is a number"),
        ({"pairs": True, "margin": None}, "--margin"),
        ({"top": 0.5, "columns": "response=answer"}, "is no mapping"),
        ({"top": 0.5, "reward_column": 5}, "--reward-column"),
        ({"top": 0.5, "group_by": 5}, "--group-by"),
    ],
)
def test_wrong_options_are_said_in_one_line(options: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        select_rows(ROWS, **options)


@pytest.mark.parametrize("rows", [None, [("p", 0.5)], {"prompt": ["p"]}])
def test_what_is_neither_a_table_nor_rows_is_refused(rows: Any) -> None:
    with pytest.raises(DataError, match="mappings"):
        select_rows(rows, top=0.5)


def test_the_index_of_pandas_stays() -> None:
    table = pd.DataFrame(ROWS, index=["a", "b", "c"])
    assert list(select_rows(table, top=0.5).index) == ["c"]


def test_rows_and_files_give_rows(scored: Path) -> None:
    assert select_rows(ROWS, top=0.5) == select_rows(scored, top=0.5) == [ROWS[2]]
    assert select_rows(iter(ROWS), best_of_group=True) == [ROWS[2]]
