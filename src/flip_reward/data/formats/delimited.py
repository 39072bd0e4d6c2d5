"""CSV as programs and spreadsheets write it: delimiter, encoding and columns without content are found out."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import BinaryIO, TextIO

from flip_reward.data.formats.compressed import DamagedStreamError, read_some
from flip_reward.data.formats.header import Header
from flip_reward.data.formats.limits import LONGEST_ROW, TOO_LONG, read_line
from flip_reward.data.formats.text import HEAD_BYTES, OFFERED, TextFile
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.data.storage import StoredFile
from flip_reward.errors import DataError

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_SAMPLED_ROWS = 100


def open_delimited(file: StoredFile, encoding: str | None = None) -> Input:
    """Open a table of delimited cells under a header row."""
    text = TextFile.of(file, encoding)
    head = text.read_head()
    if text.encoding is None and not text.chosen:
        _refuse_other_encodings(head, file.address)
    default = "," if ".csv" in PurePath(file.name.lower()).suffixes else "\t"
    try:
        layout = DelimitedLayout.find(head, default)
    except DataError as error:
        raise DataError(f"{file.address}: {error}", hint=error.hint) from error
    remarks = (
        "" if layout.delimiter == default else f"separated by {_DELIMITERS.get(layout.delimiter, layout.delimiter)}",
        text.remark,
    )
    return Input(
        file.name, partial(_read_file, text, layout), text.fingerprint, remark=", ".join(filter(None, remarks))
    )


def _read_file(text: TextFile, layout: DelimitedLayout, skip: Skip) -> Iterator[Row]:
    with text.file.reported(), text.open() as stream:
        yield from read_delimited(stream, skip, layout)


def _refuse_other_encodings(head: bytes, address: str) -> None:
    """Refuse a text in which no letter beyond ASCII is UTF-8. A damaged letter among good ones costs only its row."""
    text = head[: head.rfind(b"\n") + 1 or None].decode("utf-8-sig", "surrogateescape")
    beyond = [character for character in text if not character.isascii()]
    if beyond and all("\udc80" <= character <= "\udcff" for character in beyond):
        byte, line = ord(beyond[0]) - 0xDC00, text[: text.index(beyond[0])].count("\n") + 1
        raise DataError(
            f"{address} is not UTF-8: byte 0x{byte:02x} in line {line}",
            hint=f"name its encoding, in most spreadsheets --encoding {OFFERED}, or save it as UTF-8",
        )


@dataclass(frozen=True, slots=True)
class DelimitedLayout:
    """How a table is written."""

    delimiter: str = ","
    header: Header | None = None
    """None where there is no row at all."""
    first_line: bool = False
    """Whether the first line names the delimiter: "sep=;"."""

    @classmethod
    def find(cls, head: bytes, default: str = ",") -> DelimitedLayout:
        r"""Find out how a table is written from how it begins.

        The delimiter is the one by which most of the first rows have as many cells as the header. The default is
        taken where that leaves a choice.

        Example:
            >>> DelimitedLayout.find(b"prompt;response\nHi, you;Hello, you\n").delimiter
            ';'
        """
        text = head.decode("utf-8-sig", "surrogateescape")
        named = _SEPARATOR_LINE.match(text)
        text = text[named.end() :] if named else text
        whole = len(head) < HEAD_BYTES
        candidates = [named[1]] if named else [default, *(one for one in _DELIMITERS if one != default)]
        samples = [_Sample.take(text, one, whole=whole) for one in candidates]
        best = max(samples, key=lambda one: (one.fit, one.delimiter == default, one.width))
        if best.width < 2 and samples[0].problem:
            raise DataError(f"the header cannot be read: {samples[0].problem}")
        delimiter = best.delimiter
        if not best.rows:
            return cls(delimiter)
        header, *rows = best.rows
        if _find_other_bytes(header):
            raise DataError("the header is not UTF-8", hint=f"name the file's encoding, such as --encoding {OFFERED}")
        return cls(delimiter, Header.of(header, rows), named is not None)


_SEPARATOR_LINE = re.compile(r'\s*"?sep=([^"\r\n])"?[^\S\r\n]*(?:\r\n|\r|\n|$)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The first rows, as they are with one delimiter."""

    delimiter: str
    rows: Sequence[list[str]]
    """The header and the rows below it that are not malformed."""
    problem: str = ""
    """Why the header cannot be read."""

    @classmethod
    def take(cls, text: str, delimiter: str, *, whole: bool) -> _Sample:
        rows: list[list[str]] = []
        for row in _read_cells(_Lines(io.StringIO(text, newline="")), delimiter):
            if not isinstance(row, str):
                rows.append(row)
            elif not rows:
                return cls(delimiter, [], row)
            elif not whole:
                return cls(delimiter, rows)  # perhaps a quoted cell that goes on behind the sample
            if len(rows) > _SAMPLED_ROWS:
                return cls(delimiter, rows)
        return cls(delimiter, rows if whole or len(rows) < 2 else rows[:-1])

    @property
    def width(self) -> int:
        return len(self.rows[0]) if self.rows else 0

    @property
    def fit(self) -> float:
        """How many rows have as many cells as the header, between 0 and 1; those with fewer count half."""
        if self.width < 2:
            return 0.0
        fits = [1.0 if len(row) == self.width else 0.5 if 1 < len(row) < self.width else 0.0 for row in self.rows]
        return sum(fits) / len(fits)


def read_delimited(stream: BinaryIO, skip: Skip, layout: DelimitedLayout) -> Iterator[Row]:
    """Read rows under a header row. Quoted cells may hold line breaks; rows without any text are none.

    Quotes are read strictly. Where they are malformed only the line on which the row begins is rejected, and reading
    goes on with the next line, so that a quote that is never closed does not swallow the rows after it.
    """
    if layout.header is None:
        try:
            read_some(stream, 1)
        except DamagedStreamError as error:
            yield InvalidRow(0, 1, str(error))
        return
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))
    to_values, position = layout.header.to_values, -1
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Lines(text)
        if layout.first_line:
            next(lines)
        rows = _read_cells(lines, layout.delimiter)
        next(rows, None)  # the header
        for row in rows:
            position += 1
            if isinstance(row, str):
                yield InvalidRow(position, lines.row_begins, row)
            elif not skip(position):
                values = _find_other_bytes(row) or to_values(row, "")
                if isinstance(values, str):
                    yield InvalidRow(position, lines.row_begins, values)
                else:
                    yield RawRow(position, lines.row_begins, values)


def _read_cells(lines: _Lines, delimiter: str) -> Iterator[list[str] | str]:
    """Read the cells of each row that has any text; or say why they cannot be read."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except DamagedStreamError as error:
            yield str(error)
            return
        except csv.Error as error:
            lines.read_again_from_second()
            yield str(error) if isinstance(error, _TooLongError) else f"not CSV, look at its quotes: {error}"
        else:
            if any(cells):
                yield cells


def _find_other_bytes(cells: list[str]) -> str | None:
    """Say which byte of a row is not UTF-8, if there is one."""
    text = "".join(cells)
    found = None if text.isascii() else _INVALID_BYTE.search(text)
    return f"not UTF-8: byte 0x{ord(found[0]) - 0xDC00:02x}" if found else None


_INVALID_BYTE = re.compile("[\udc80-\udcff]")


class _TooLongError(csv.Error):
    """A row is longer than `LONGEST_ROW`."""


class _Lines(Iterator[str]):
    """The lines of a text; those of the current row can be read again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self._row_characters = 0
        self.number = 0
        self.row_begins = 1

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else read_line(self._stream)
        if not line:
            raise StopIteration
        self._row.append(line)
        self._row_characters += len(line)
        self.number += 1
        if self._row_characters > LONGEST_ROW:
            raise _TooLongError(TOO_LONG)
        return line

    def begin_row(self) -> None:
        self._row.clear()
        self.row_begins = self.number + 1
        self._row_characters = 0

    def read_again_from_second(self) -> None:
        rest = self._row[1:]
        self._again.extendleft(reversed(rest))
        self.number -= len(rest)
