"""The formats rows are read from: a stream or file in, `RawRow` and `InvalidRow` out.

Compressed files are decompressed by a small stream of our own: `gzip.open` loses up to a buffer of rows before a
damaged place, and `zstandard.open` ends silently where the data is cut off.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, AnyStr, BinaryIO, Protocol, TextIO, TypeVar

import orjson

from flip_reward.data.rows import InvalidRow, RawRow, Row, Skip
from flip_reward.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile


COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""File name endings and what they mean."""

_BUFFER_BYTES = 1 << 20
# Both formats can blow up a thousandfold and more (zstd over 10,000 times on repeated rows), and a piece is
# decompressed at once: 4 KiB keep that within tens of megabytes.
_PIECE_BYTES = 4096


class DamagedStreamError(Exception):
    """Compressed data is damaged or ends too early. Everything before the damage has been read."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


_Line_co = TypeVar("_Line_co", str, bytes, covariant=True)


class _LineStream(Protocol[_Line_co]):
    def readline(self, size: int, /) -> _Line_co: ...


def open_stream(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed if its name ends in ".gz" or ".zst".

    The stream raises `DamagedStreamError` where the data is damaged or ends too early, after everything before that
    place has been read.
    """
    compression = COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        return path.open("rb", buffering=_BUFFER_BYTES)
    make_decompressor, error = _load(compression)
    raw = _DecompressedFile(path.open("rb", buffering=0), compression, make_decompressor, error)
    return io.BufferedReader(raw, _BUFFER_BYTES)


def _load(compression: str) -> tuple[Callable[[], _Decompressor], type[Exception]]:
    if compression == "gzip":
        return lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), zlib.error
    try:
        import zstandard
    except ImportError:
        raise MissingDependencyError("zstandard", extra="zstd") from None
    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError


class _DecompressedFile(io.RawIOBase):
    """The contents of a compressed file, which may be several compressed streams one after the other."""

    def __init__(
        self,
        file: io.FileIO,
        compression: str,
        make_decompressor: Callable[[], _Decompressor],
        error: type[Exception],
    ) -> None:
        self._file = file
        self._compression = compression
        self._make_decompressor = make_decompressor
        self._error = error
        self._decompressor: _Decompressor | None = None
        self._compressed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        while not self._plain:
            if not self._compressed:
                self._compressed = self._file.read(_PIECE_BYTES)
            if not self._compressed:
                if self._decompressor is not None:
                    raise DamagedStreamError(f"the {self._compression} data is cut off here")
                return 0
            self._plain = memoryview(self._decompress())
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size

    def _decompress(self) -> bytes:
        if self._decompressor is None:
            # Zeros may pad the end of a gzip file (tapes, block devices).
            self._compressed = self._compressed.lstrip(b"\0")
            if not self._compressed:
                return b""
            self._decompressor = self._make_decompressor()
        try:
            plain = self._decompressor.decompress(self._compressed)
        except self._error as error:
            raise DamagedStreamError(f"the {self._compression} data is damaged here ({error})") from error
        self._compressed = b""
        if self._decompressor.eof:
            self._compressed = self._decompressor.unused_data
            self._decompressor = None
        return plain

    def close(self) -> None:
        self._file.close()
        super().close()


LONGEST_ROW = 32 << 20
"""Longer rows are rejected: in bytes of JSON or Parquet, in characters of CSV. A quote that is never closed swallows
no more than this before it is noticed.
"""
_TOO_LONG = f"the row is longer than {LONGEST_ROW >> 20} MiB"

_LARGE = 2.0**63
_PARQUET_BATCH_ROWS = 256
_PARQUET_BUFFER_BYTES = 1 << 20


def read_json_lines(stream: BinaryIO, skip: Skip) -> Iterator[Row]:
    """Read one JSON object a line. Blank lines are skipped and have no position."""
    position, line_number = -1, 0
    try:
        for line_number, line in enumerate(iter(partial(_read_line, stream), b""), 1):
            if line.isspace():
                continue
            position += 1
            if skip(position):
                continue
            if len(line) > LONGEST_ROW:
                yield InvalidRow(position, line_number, _TOO_LONG)
                continue
            try:
                values = orjson.loads(line)
            except orjson.JSONDecodeError:
                yield _read_json_again(position, line_number, line)
                continue
            if type(values) is dict:
                yield RawRow(position, line_number, _with_large_integers(values, line))
            else:
                yield _reject_non_object(position, line_number, values)
    except DamagedStreamError as error:
        yield InvalidRow(position + 1, line_number + 1, str(error))


def _read_line(stream: _LineStream[AnyStr]) -> AnyStr:
    """Read a line to its end, but keep no more than a little over `LONGEST_ROW` of it; nothing at the end."""
    line = piece = stream.readline(LONGEST_ROW + 1)
    while len(piece) > LONGEST_ROW:
        piece = stream.readline(LONGEST_ROW + 1)
    return line


def _read_json_again(position: int, line_number: int, line: bytes) -> Row:
    """Read what the fast parser refuses and Python's accepts (NaN, a byte order mark), or say what is wrong."""
    try:
        values = json.loads(line.rstrip().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{error.object[error.start]:02x} at column {error.start + 1}"
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        reason = f"not readable as JSON: {error}"
    else:
        if isinstance(values, dict):
            return RawRow(position, line_number, values)
        return _reject_non_object(position, line_number, values)
    return InvalidRow(position, line_number, reason)


def _with_large_integers(values: dict[str, object], line: bytes) -> dict[str, object]:
    """Read a row again where the fast parser has rounded an integer of more than 64 bits, such as an id."""
    if any(type(value) is float and abs(value) >= _LARGE for value in values.values()):
        with suppress(ValueError, RecursionError):
            exact: dict[str, object] = json.loads(line)
            return exact
    return values


def _reject_non_object(position: int, line_number: int, value: object) -> InvalidRow:
    kind = "a list" if isinstance(value, list) else "a single value"
    return InvalidRow(position, line_number, f"not a JSON object but {kind}")


def read_csv(stream: BinaryIO, skip: Skip, *, delimiter: str) -> Iterator[Row]:
    """Read comma- or tab-separated rows under a header row. Quoted cells may hold line breaks.

    Quotes are read strictly. Where they are malformed only the line on which the row begins is rejected, and reading
    goes on with the next line, so that a quote that is never closed does not swallow the rows after it.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        yield from _read_csv_rows(_Lines(text), skip, delimiter)


def _read_csv_rows(lines: _Lines, skip: Skip, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _read_header(reader)
    position = -1
    while True:
        lines.begin_row()
        line_number = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except DamagedStreamError as error:
            yield InvalidRow(position + 1, line_number, str(error))
            return
        except csv.Error as error:
            lines.read_again_from_second()
            position += 1
            reason = str(error) if isinstance(error, _TooLongError) else f"not CSV, look at its quotes: {error}"
            yield InvalidRow(position, line_number, reason)
            continue
        if not cells:
            continue
        position += 1
        if skip(position):
            continue
        if len(cells) != len(header):
            reason = f"the row has {len(cells)} cells, the header {len(header)}"
            yield InvalidRow(position, line_number, reason)
        elif _was_not_utf8(cells):
            yield InvalidRow(position, line_number, "not UTF-8")
        else:
            yield RawRow(position, line_number, dict(zip(header, cells, strict=True)))


def _read_header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((cells for cells in reader if cells), [])
    except (csv.Error, DamagedStreamError) as error:
        raise DataError(f"the header cannot be read: {error}") from error
    if _was_not_utf8(header):
        raise DataError("the header is not UTF-8", hint="save the file as UTF-8")
    if repeated := {name for name in header if header.count(name) > 1}:
        raise DataError(f"the header names a column twice: {', '.join(sorted(repeated))}")
    return header


def _was_not_utf8(cells: list[str]) -> bool:
    text = "".join(cells)
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


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

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else _read_line(self._stream)
        if not line:
            raise StopIteration
        self._row.append(line)
        self._row_characters += len(line)
        self.number += 1
        if self._row_characters > LONGEST_ROW:
            raise _TooLongError(_TOO_LONG)
        return line

    def begin_row(self) -> None:
        self._row.clear()
        self._row_characters = 0

    def read_again_from_second(self) -> None:
        rest = self._row[1:]
        self._again.extendleft(reversed(rest))
        self.number -= len(rest)


def open_parquet(path: Path) -> ParquetFile:
    """Open a Parquet file to be read with little memory."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None
    try:
        return pq.ParquetFile(path, buffer_size=_PARQUET_BUFFER_BYTES)
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a Parquet file: {_say(error)}") from error


def read_parquet(path: Path, skip: Skip) -> Iterator[Row]:
    """Read the rows of a Parquet file. A damaged row group is rejected from where it is damaged, as one row."""
    import pyarrow as pa

    with open_parquet(path) as file:
        end = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group)
            position, end = end, end + size.num_rows
            rows = min(_PARQUET_BATCH_ROWS, max(1, LONGEST_ROW * size.num_rows // max(1, size.total_byte_size)))
            try:
                for batch in file.iter_batches(rows, row_groups=[group]):
                    yield from _read_batch(batch, position, skip)
                    position += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                reason = f"rows {position + 1} to {end} cannot be read: {_say(error)}"
                yield InvalidRow(position, position + 1, reason)


def _say(error: Exception) -> str:
    return " ".join(str(error).split())


def _read_batch(batch: RecordBatch, start: int, skip: Skip) -> Iterator[Row]:
    wanted = [index for index in range(batch.num_rows) if not skip(start + index)]
    if not wanted:
        return
    if batch.nbytes <= _PARQUET_BUFFER_BYTES:
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            pass  # row by row below
        else:
            yield from (RawRow(start + index, start + index + 1, rows[index]) for index in wanted)
            return
    yield from (_read_parquet_row(batch, index, start + index) for index in wanted)


def _read_parquet_row(batch: RecordBatch, index: int, position: int) -> Row:
    try:
        [values] = batch.slice(index, 1).to_pylist()
    except UnicodeDecodeError as error:
        return InvalidRow(position, position + 1, f"not UTF-8: {error.reason}")
    if _count_bytes(values) > LONGEST_ROW:
        return InvalidRow(position, position + 1, _TOO_LONG)
    return RawRow(position, position + 1, values)


def _count_bytes(value: object) -> int:
    """Count the bytes of all texts in a value."""
    if isinstance(value, str | bytes):
        return len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode())
    if isinstance(value, Mapping):
        return sum(map(_count_bytes, value.values()))
    return sum(map(_count_bytes, value)) if isinstance(value, list) else 0
