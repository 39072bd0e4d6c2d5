from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from openpyxl import Workbook

from flip_reward.data.groups import read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import RawRow
from flip_reward.data.shapes import find_shape
from flip_reward.errors import DataError, MissingDependencyError
from tests.unit.data.formats.rows import reason_of


def write_book(path: Path, *sheets: Sequence[Sequence[object]]) -> Path:
    book = Workbook()
    for number, rows in enumerate(sheets):
        sheet = book.active if number == 0 else book.create_sheet(f"Sheet{number + 1}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def values_of(path: Path | str) -> list[object]:
    return [row.values if isinstance(row, RawRow) else row.reason for row in open_input(str(path)).rows()]


def test_rows_stand_under_their_header_and_empty_ones_are_none(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [[], ["id", "text", None], [1, "x"], [], [2], [None, "z"]])
    rows = list(open_input(str(path)).rows())
    assert rows == [
        RawRow(0, 3, {"id": 1, "text": "x"}),
        RawRow(1, 5, {"id": 2, "text": ""}),
        RawRow(2, 6, {"id": None, "text": "z"}),
    ]
    assert list(open_input(str(path)).rows({0, 2}.__contains__)) == rows[1:2]


def test_a_column_with_text_is_text_and_the_others_keep_their_values(tmp_path: Path) -> None:
    day, time = dt.datetime(2024, 5, 1), dt.datetime(2024, 5, 1, 10, 30)  # noqa: DTZ001 - sheets know no zones
    header: list[object] = ["answer", "when", "yes", "price"]
    rows: list[list[object]] = [
        ["x", day, True, 1.5],
        [42, time, False, 2],
        [2.0, None, None, None],
        [True, None, None, None],
        [day],
    ]
    found = values_of(write_book(tmp_path / "a.xlsx", [header, *rows, [time]]))
    assert found[0] == {"answer": "x", "when": day, "yes": True, "price": 1.5}
    assert found[1] == {"answer": "42", "when": time, "yes": False, "price": 2}
    assert [row["answer"] for row in found[2:] if isinstance(row, dict)] == [
        "2",
        "TRUE",
        "2024-05-01",
        "2024-05-01 10:30:00",
    ]


def test_a_cell_with_an_error_is_empty(tmp_path: Path) -> None:
    book = Workbook()
    for row in (["a", "b"], ["x", "y"], ["z", "w"]):
        book.active.append(row)
    book.active["B3"].value, book.active["B3"].data_type = "#N/A", "e"
    book.save(tmp_path / "a.xlsx")
    assert values_of(tmp_path / "a.xlsx") == [{"a": "x", "b": "y"}, {"a": "z", "b": ""}]


def test_another_sheet_is_named_behind_a_colon(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["a"], ["1"]], [["b"], ["2"]])
    assert values_of(path) == [{"a": "1"}]
    assert open_input(str(path)).remark == "sheet 'Sheet' of 2"
    assert values_of(f"{path}:Sheet2") == [{"b": "2"}]
    assert open_input(f"{path}:Sheet2").name == "a.xlsx:Sheet2"
    with pytest.raises(DataError, match="has no sheet 'Nope'") as caught:
        open_input(f"{path}:Nope")
    assert caught.value.hint == "its sheets are Sheet, Sheet2"


def test_an_empty_sheet_has_no_rows(tmp_path: Path) -> None:
    assert values_of(write_book(tmp_path / "a.xlsx", [])) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"a,b\n1,2\n"])
def test_what_is_no_workbook_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.xlsx is not an \.xlsx workbook"):
        open_input(str(tmp_path / "a.xlsx"))


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    with ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(old, new))


def test_a_sheet_that_is_damaged_ends_with_a_rejected_row(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["a"], *([str(number)] for number in range(300))])
    rewrite(path, b'<row r="250">', b'<row r="250"')
    *good, last = open_input(str(path)).rows()
    assert 200 < len(good) < 250
    assert "cannot be read" in reason_of(last)


def test_a_row_far_away_does_not_cost_the_rows_between(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["a"], ["1"], ["2"]])
    rewrite(path, b'<row r="3">', b'<row r="99999999999">')
    with pytest.raises(DataError, match="more than 1,048,576 rows"):
        open_input(str(path))


def test_a_workbook_without_its_library_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_book(tmp_path / "a.xlsx", [["a"], ["1"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_input(str(path))
    assert caught.value.hint == 'pip install "flip-reward[xlsx]"'


def test_an_empty_sheet_is_named_where_there_are_others(tmp_path: Path) -> None:
    source = open_input(str(write_book(tmp_path / "book.xlsx", [], [["prompt", "response"]])))
    shape = find_shape([{"prompt": "Hi", "response": "Hello"}])
    with pytest.raises(DataError, match="there are no rows") as caught:
        list(read_sources([source], shape))
    assert "'Sheet' of 2" in str(caught.value.hint)
