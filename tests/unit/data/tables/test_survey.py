from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.data.tables import Layout, write_rows
from flip_reward.data.tables.survey import MOST_COLUMNS, survey_rows
from flip_reward.errors import DataError


def rows_of(*values: Mapping[str, object]) -> Input:
    def read(_skip: Skip) -> Iterator[Row]:
        return (RawRow(position, position + 1, row) for position, row in enumerate(values))

    return Input("rows", read)


def column(values: Sequence[object], tmp_path: Path) -> tuple[pa.DataType, list[object]]:
    """Write a column whose values were looked at, and read it back."""
    source = rows_of(*({"x": value} for value in values))
    survey = survey_rows([source], typed=True)
    layout = Layout(survey.names, lambda: pa.schema(survey.make_fields()))
    write_rows(tmp_path / "x.parquet", (survey.fit({"x": value}) for value in values), layout)
    table = pq.read_table(tmp_path / "x.parquet")
    return table.schema.field("x").type, table["x"].to_pylist()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True, None], pa.bool_()),
        (["a", None], pa.string()),
        ([None, None], pa.string()),
        ([[], ["a"], None], pa.list_(pa.string())),
        ([{"a": 1}, {"a": 2, "b": [0.5]}], pa.struct([("a", pa.int64()), ("b", pa.list_(pa.float64()))])),
        (
            [[{"role": "user", "content": "hi"}]],
            pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        ),
        ([b"\xff"], pa.binary()),
        ([datetime.fromisoformat("2026-01-02")], pa.timestamp("us")),
    ],
)
def test_a_column_of_one_type_has_it(tmp_path: Path, values: list[object], kind: pa.DataType) -> None:
    found, back = column(values, tmp_path)
    assert found == kind
    assert len(back) == len(values)
    assert all((one is None) == (other is None) for one, other in zip(back, values, strict=True))


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        [2**63, 1],
        [2**60, 0.5],
        [0.5, 2**60],
        [[1], "a"],
        [[1, "a"]],
        [{"a": 1}, {"a": "x"}],
        [{}, {}],
        [{"a": {}}, {"a": {}}],
        [[{}], []],
        [True, 1],
        [{str(number): 1} for number in range(100)],
        [[[[[[[[[1]]]]]]]]],
    ],
)
def test_a_column_that_no_type_fits_is_json_text(tmp_path: Path, values: list[object]) -> None:
    kind, back = column(values, tmp_path)
    assert kind == pa.string()
    assert [json.loads(str(text)) for text in back] == values


@pytest.mark.parametrize("value", [datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.5")])
def test_values_that_json_does_not_know_are_text_in_it(tmp_path: Path, value: object) -> None:
    kind, [back] = column([value], tmp_path)
    assert kind == pa.string()
    assert str(back)[1:4] in ("202", "1.5")


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    assert column(["\ud800", "a"], tmp_path) == (pa.string(), ["?", "a"])


def test_names_keep_the_order_in_which_they_come_and_rejected_rows_count() -> None:
    def read(_skip: Skip) -> Iterator[Row]:
        yield RawRow(0, 1, {"b": 1})
        yield InvalidRow(1, 2, "not JSON")
        yield RawRow(2, 3, {"a": 1, "b": 2})
        yield RawRow(3, 4, {"c": 1})

    source = Input("rows", read)
    survey = survey_rows([source, rows_of({"d": 1})], typed=False)
    assert (survey.names, survey.rows) == (("b", "a", "c", "d"), 5)
    assert survey_rows([source, rows_of({"d": 1})], typed=False, limit=3).names == ("b", "a")


def test_names_that_are_data_are_refused() -> None:
    rows = rows_of(*({f"name-{number}": 1} for number in range(MOST_COLUMNS + 1)))
    with pytest.raises(DataError, match="4,096"):
        survey_rows([rows], typed=False)


def test_the_schema_of_a_file_stays(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("small", pa.int8(), nullable=False),
            ("time", pa.timestamp("ns", "Europe/Berlin")),
            ("price", pa.decimal128(7, 2)),
            ("label", pa.dictionary(pa.int32(), pa.string())),
            ("vector", pa.list_(pa.float32(), 2)),
            ("pairs", pa.map_(pa.string(), pa.int16())),
        ],
        metadata={"pandas": "{}"},
    )
    row = {"small": 1, "time": 1, "price": Decimal("1.50"), "label": "a", "vector": [0.5, 1], "pairs": [("k", 1)]}
    pq.write_table(pa.Table.from_pylist([row], schema=schema), tmp_path / "in.parquet")
    source = open_input(str(tmp_path / "in.parquet"))
    survey = survey_rows([source], typed=True)
    layout = Layout(survey.names, lambda: pa.schema(survey.make_fields(), metadata=survey.metadata))
    write_rows(tmp_path / "out.parquet", (row.values for row in source.rows() if isinstance(row, RawRow)), layout)
    before, after = (pq.read_table(tmp_path / name) for name in ("in.parquet", "out.parquet"))
    assert after.schema.types == before.schema.types
    assert after.to_pylist() == before.to_pylist()
    assert (after.schema.metadata or {}).get(b"pandas") == b"{}"


def test_empty_objects_of_an_arrow_file_are_json_text(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array([1], pa.int8()), "x": pa.array([[{}]], pa.list_(pa.struct([])))})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    survey = survey_rows([open_input(str(tmp_path / "a.arrow"))], typed=True)
    write_rows(tmp_path / "x.parquet", [survey.fit({"n": 1, "x": [{}]})], Layout(survey.names, survey.make_schema))
    written = pq.read_table(tmp_path / "x.parquet")
    assert written.schema.types == [pa.int8(), pa.string()]
    assert written["x"].to_pylist() == ["[{}]"]


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (pa.array([2**53]), pa.array([0.5]), pa.float64()),
        (pa.array([2**53 + 1]), pa.array([0.5]), pa.string()),
        (pa.array([{"a": [2**53 + 1]}]), pa.array([{"a": [0.5]}]), pa.string()),
        (pa.array([2**64 - 1], pa.uint64()), pa.array([1]), pa.string()),
        (pa.array([Decimal("0.1")]), pa.array([0.5]), pa.string()),
    ],
)
def test_numbers_that_no_type_of_several_files_holds_are_json_text(
    tmp_path: Path, one: pa.Array, other: pa.Array, kind: pa.DataType
) -> None:
    for name, values in (("a", one), ("b", other)):
        pq.write_table(pa.table({"x": values, "n": pa.array([1], pa.int8())}), tmp_path / f"{name}.parquet")
    source = open_input(str(tmp_path))
    survey = survey_rows([source], typed=True)
    rows = [survey.fit(row.values) for row in source.rows() if isinstance(row, RawRow)]
    write_rows(tmp_path / "out.parquet", rows, Layout(survey.names, survey.make_schema))
    assert pq.read_schema(tmp_path / "out.parquet").types == [kind, pa.int8()]


def test_schemas_that_do_not_agree_give_way_to_the_values(tmp_path: Path) -> None:
    for name, values in (("a", [1]), ("b", ["x"])):
        pq.write_table(pa.table({"x": values}), tmp_path / f"{name}.parquet")
    survey = survey_rows([open_input(str(tmp_path / f"{name}.parquet")) for name in "ab"], typed=True)
    assert (survey.names, survey.mixed) == (("x",), {"x"})
