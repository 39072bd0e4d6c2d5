"""Sheets of .xlsx workbooks, read row by row."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, BinaryIO
from zipfile import BadZipFile, ZipFile

from flip_reward.data.formats.header import Header, is_blank
from flip_reward.data.formats.limits import LONGEST_ROW, TOO_LONG, count_bytes
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.data.storage import StoredFile
from flip_reward.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

_SAMPLED_ROWS = 100
_MOST_ROWS = 1 << 20
"""Excel's own limit. A row may name any number as its own, and those between would all be made."""
_LARGEST_PART = 1 << 30
"""In bytes. Texts that several cells share are read at once, and can be compressed a thousandfold."""


@dataclass(frozen=True, slots=True)
class _Columns:
    header: Header
    holds_text: tuple[bool, ...]
    """Whether a column has text in it. Its numbers and dates are read as text too."""
    line: int
    """The header's."""


def open_spreadsheet(file: StoredFile, sheet: str | None = None) -> Input:
    """Open a sheet of a workbook, the first one if none is named."""
    with file.reported(), _open_sheet(file, sheet) as (opened, names):
        columns = _find_columns(opened)
        remark = f"sheet {opened.title!r} of {len(names)}" if sheet is None and len(names) > 1 else ""
    name = f"{file.name}:{sheet}" if sheet else file.name
    return Input(name, partial(_read_sheet, file, sheet, columns), file.fingerprint, remark=remark)


@contextmanager
def _open_sheet(file: StoredFile, sheet: str | None) -> Iterator[tuple[ReadOnlyWorksheet, list[str]]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MissingDependencyError("openpyxl", extra="xlsx") from None
    with file.open_seekable() as stream:
        try:
            _check_sizes(stream, file.address)
            book: Workbook = load_workbook(stream, read_only=True, data_only=True)
        except _BROKEN as error:
            raise DataError(f"{file.address} is not an .xlsx workbook: {error}") from error
        try:
            sheets = {one.title: one for one in book.worksheets}
            wanted = sheet or next(iter(sheets), "")
            if wanted not in sheets:
                raise DataError(f"{file.address} has no sheet {wanted!r}", hint=f"its sheets are {', '.join(sheets)}")
            sheets[wanted].reset_dimensions()  # what a file says of its size may be wrong
            yield sheets[wanted], list(sheets)
        finally:
            book.close()


def _check_sizes(stream: BinaryIO, address: str) -> None:
    with ZipFile(stream) as archive:
        if max((part.file_size for part in archive.infolist()), default=0) > _LARGEST_PART:
            raise DataError(f"{address} holds more than {_LARGEST_PART >> 30} GiB in one part")
    stream.seek(0)


def _find_columns(sheet: ReadOnlyWorksheet) -> _Columns:
    try:
        rows = list(islice(_read_cells(sheet), _SAMPLED_ROWS + 1))
    except _BROKEN as error:
        raise DataError(f"its first rows cannot be read: {error}") from error
    if not rows:
        return _Columns(Header(()), (), 0)
    (line, first), *sample = rows
    header = Header.of([_to_text(cell) for cell in first], [cells for _, cells in sample])
    texts = {place for _, cells in sample for place, cell in enumerate(cells) if isinstance(cell, str)}
    return _Columns(header, tuple(place in texts for place in range(len(first))), line)


def _read_sheet(file: StoredFile, sheet: str | None, columns: _Columns, skip: Skip) -> Iterator[Row]:
    position, line = -1, columns.line
    with file.reported(), _open_sheet(file, sheet) as (opened, _):
        try:
            for line, cells in _read_cells(opened):
                if line <= columns.line:
                    continue
                position += 1
                if not skip(position):
                    yield _to_row(position, line, columns, cells)
        except _BROKEN as error:
            yield InvalidRow(position + 1, line + 1, f"the rows from here on cannot be read: {error}")


def _read_cells(sheet: ReadOnlyWorksheet) -> Iterator[tuple[int, list[object]]]:
    """Read the rows that hold anything, with their numbers."""
    for number, row in enumerate(sheet.iter_rows(), 1):
        if number > _MOST_ROWS:
            raise ValueError(f"there are more than {_MOST_ROWS:,} rows")
        cells = [None if cell.data_type == "e" else cell.value for cell in row]
        while cells and is_blank(cells[-1]):
            cells.pop()
        if cells:
            yield number, cells


def _to_row(position: int, line: int, columns: _Columns, cells: Sequence[object]) -> Row:
    pairs = zip_longest(cells, columns.holds_text)
    values = columns.header.to_values([_to_text(cell) if is_text else cell for cell, is_text in pairs], None)
    if isinstance(values, str):
        return InvalidRow(position, line, values)
    if count_bytes(values) > LONGEST_ROW:
        return InvalidRow(position, line, TOO_LONG)
    return RawRow(position, line, values)


def _to_text(cell: object) -> str:
    """Return what a person sees in a cell."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, dt.datetime):
        return cell.isoformat(" ").removesuffix(" 00:00:00")
    return "" if cell is None else str(cell)


_BROKEN = (BadZipFile, zlib.error, EOFError, SyntaxError, LookupError, ValueError, TypeError, AttributeError)
"""What openpyxl lets through where a workbook is damaged."""
