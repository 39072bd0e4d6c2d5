"""Tables for spreadsheets: CSV, TSV and Excel files. No cell of theirs is ever run as a formula."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import chain
from typing import BinaryIO

from flip_reward.data.tables.values import to_text
from flip_reward.errors import MissingDependencyError, OptionError

SHEET_ROWS = 1_048_576
"""The most rows of an Excel sheet, the header among them."""
CELL_CHARACTERS = 32_767
"""The most characters of an Excel cell, in UTF-16 units."""

# What a spreadsheet runs when it opens a CSV file, also behind blanks and in full width.
_FORMULA = re.compile(r"[\t\r]|\s*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?%?")
# Characters that XML has no place for.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MOST_EXACT = 1 << 53
_FIRST_YEAR = 1901  # Excel counts days from 1900, and that year wrongly


def write_csv(
    file: BinaryIO, rows: Iterable[Mapping[str, object]], names: Sequence[str], *, delimiter: str = ",", mark: bool
) -> None:
    """Write rows under a header, in UTF-8; a byte order mark tells Excel so.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, unless it is a number.
    """
    encoding = "utf-8-sig" if mark else "utf-8"
    text = io.TextIOWrapper(file, encoding, errors="replace", newline="", write_through=False)
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(map(make_harmless, names))
    writer.writerows([_to_cell(row.get(name)) for name in names] for row in rows)
    text.detach()


def make_harmless(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run as a formula.

    Example:
        >>> [make_harmless(text) for text in ("=1+1", "- an item", "-1.5e3", "a = b")]
        ["'=1+1", "'- an item", '-1.5e3', 'a = b']
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def restore_text(text: str) -> str:
    """Take away what `make_harmless` put before a text.

    Example:
        >>> restore_text("'- an item"), restore_text("'tis")
        ('- an item', "'tis")
    """
    return text[1:] if text[:1] == "'" and make_harmless(text[1:]) == text else text


def _to_cell(value: object) -> object:
    if value is None or isinstance(value, str):
        return value and make_harmless(value)
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return make_harmless(to_text(value))


def check_excel(rows: int | None = None) -> None:
    """Make sure that an Excel file can be written, and that so many rows fit into a sheet."""
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise MissingDependencyError("openpyxl", extra="xlsx") from None
    if rows is not None and rows >= SHEET_ROWS:
        raise OptionError(
            f"an Excel sheet holds {SHEET_ROWS - 1:,} rows under its header", hint="write .csv or .parquet instead"
        )


def write_excel(file: BinaryIO, rows: Iterable[Mapping[str, object]], names: Sequence[str]) -> list[str]:
    """Write rows under a header into the only sheet of a workbook, and return what had to be changed, in words.

    Texts are texts, never formulas. Characters that such a file cannot hold are replaced.
    """
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    cells = _Cells(sheet)
    try:
        for number, row in enumerate(chain([dict(zip(names, names, strict=True))], rows)):
            check_excel(number)
            sheet.append([cells.make(row.get(name)) for name in names])
    except BaseException:
        sheet.close()
        raise
    book.save(file)
    return list(cells.describe_changes())


class _Cells:
    """Makes cells of values, and counts those that it had to change."""

    def __init__(self, sheet: object) -> None:
        from openpyxl.cell import WriteOnlyCell

        self._make, self._sheet = WriteOnlyCell, sheet
        self._cut = self._replaced = 0

    def make(self, value: object) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, float) and not math.isinf(value):
            return None if math.isnan(value) else self._make_number(value)
        if isinstance(value, int) and abs(value) <= _MOST_EXACT:
            return value
        if isinstance(value, date) and value.year >= _FIRST_YEAR and getattr(value, "tzinfo", None) is None:
            return value
        cell = self._make(self._sheet, "")
        cell.value, cell.data_type = self._fit(to_text(value)), "s"
        return cell

    def _make_number(self, value: float) -> object:
        if float(f"{value:.16g}") == value:  # the digits that openpyxl writes
            return value
        cell = self._make(self._sheet, "")
        cell.value, cell.data_type = repr(value), "n"
        return cell

    def _fit(self, text: str) -> str:
        text, replaced = _NOT_XML.subn("\ufffd", text)
        self._replaced += bool(replaced)
        if len(text) > CELL_CHARACTERS // 2:
            units = text.encode("utf-16-le")
            if len(units) > 2 * CELL_CHARACTERS:
                self._cut += 1
                return units[: 2 * CELL_CHARACTERS].decode("utf-16-le", errors="ignore")
        return text

    def describe_changes(self) -> Iterator[str]:
        if self._cut:
            yield f"{self._cut:,} cells were cut to {CELL_CHARACTERS:,} characters, the most that Excel takes"
        if self._replaced:
            yield f"in {self._replaced:,} cells characters that Excel refuses were replaced"
