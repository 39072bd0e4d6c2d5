from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from flip_reward.data.tables import Layout, check_output, write_rows
from flip_reward.data.tables.sheets import CELL_CHARACTERS, SHEET_ROWS, make_harmless, write_csv
from flip_reward.errors import OptionError

FORMULAS = [
    "=1+1", "+cmd|' /C calc'!A0", "-1+2", "@SUM(A1)", "\tx", "\rx", " =1", "\u00a0=1", "\n\n=1", "＝1+1", "＠x",
    "－2x", "- an item", "+", "-.", "-1,5+A1", "--1",
]  # fmt: skip
HARMLESS = ["", "a=b", "1+1", "'=1", "-5", "+3.25e-7", "-1,5", "1.000,50", "-12%", "(=1)", "\n\ntext", "text\t="]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    assert make_harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay(text: str) -> None:
    assert make_harmless(text) == text


def written(rows: Sequence[dict[str, object]], names: Sequence[str], **options: object) -> bytes:
    file = io.BytesIO()
    write_csv(file, rows, names, **{"mark": False, **options})  # type: ignore[arg-type]
    return file.getvalue()


def test_csv_is_read_back_by_others(tmp_path: Path) -> None:
    texts = ["Größe 🍎", 'quoted, "so"', "two\r\nlines", "lone \r return", "nul \x00", ""]
    (tmp_path / "out.csv").write_bytes(written([{"=a": text, "b": 1} for text in texts], ["=a", "b"], mark=True))
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["'=a"] for row in csv.DictReader(file)] == texts
    assert (tmp_path / "out.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert list(pd.read_csv(tmp_path / "out.csv").columns) == ["'=a", "b"]


def test_cells_of_every_type() -> None:
    row: dict[str, object] = {
        "a": None,
        "b": float("nan"),
        "c": -1.5,
        "d": [1, "x"],
        "e": True,
        "f": 2**70,
        "g": "\ud800",
    }
    assert written([row], "abcdefgh") == (
        b'a,b,c,d,e,f,g,h\r\n,,-1.5,"[1,""x""]",true,1180591620717411303424,?,\r\n'
    )  # fmt: skip


def test_tabs_separate_where_that_is_wanted() -> None:
    assert written([{"a": "x\ty", "b": 1}], "ab", delimiter="\t") == b'a\tb\r\n"x\ty"\t1\r\n'


def write_excel(path: Path, rows: Sequence[dict[str, object]], names: Sequence[str]) -> Sequence[str]:
    return write_rows(path, rows, Layout(names, lambda: None))


def read_excel(path: Path) -> list[list[object]]:
    return [[cell.value for cell in row] for row in openpyxl.load_workbook(path).active.rows]


EXCEL: list[tuple[object, object]] = [
    ("=1+1", "=1+1"),
    ("#REF!", "#REF!"),
    ("007", "007"),
    (-3, -3),
    (0.25, 0.25),
    (0.1 + 0.2, 0.1 + 0.2),
    (2**60, str(2**60)),
    (None, None),
    (float("nan"), None),
    (float("-inf"), "-inf"),
    (["a"], '["a"]'),
    (date(1812, 1, 2), "1812-01-02"),
    (True, True),
]


def test_an_excel_file_holds_texts_as_texts_and_numbers_as_numbers(tmp_path: Path) -> None:
    names = [f"{number}" for number in range(len(EXCEL))]
    row = dict(zip(names, [given for given, _ in EXCEL], strict=True))
    assert not write_excel(tmp_path / "out.xlsx", [row], names)
    assert read_excel(tmp_path / "out.xlsx") == [names, [read for _, read in EXCEL]]
    [_, [formula, *_]] = openpyxl.load_workbook(tmp_path / "out.xlsx").active.rows
    assert formula.data_type == "s"


def test_a_day_is_a_date_in_an_excel_file(tmp_path: Path) -> None:
    write_excel(tmp_path / "out.xlsx", [{"day": date(2026, 1, 2)}], ["day"])
    assert str(read_excel(tmp_path / "out.xlsx")[1][0]).startswith("2026-01-02")


def test_what_excel_cannot_hold_is_changed_and_said(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"a": "bell \x07", "b": "🍎" * CELL_CHARACTERS},
        {"a": "\ud800", "b": "x" * CELL_CHARACTERS},
    ]
    cut, replaced = write_excel(tmp_path / "out.xlsx", rows, "ab")
    half = "🍎" * (CELL_CHARACTERS // 2)
    assert read_excel(tmp_path / "out.xlsx")[1:] == [["bell \ufffd", half], ["\ufffd", "x" * CELL_CHARACTERS]]
    assert cut.startswith("1 cells were cut to 32,767")
    assert replaced.startswith("in 2 cells")


def test_more_rows_than_a_sheet_holds_are_refused_before_the_run(tmp_path: Path) -> None:
    check_output(tmp_path / "out.xlsx", rows=SHEET_ROWS - 1)
    with pytest.raises(OptionError, match="1,048,575"):
        check_output(tmp_path / "out.xlsx", rows=SHEET_ROWS)
