"""Parquet and Arrow files: batches of rows in columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from flip_reward.data.formats.limits import LONGEST_ROW, TOO_LONG, count_bytes
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.data.storage import StoredFile
from flip_reward.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS = 256
_BUFFER_BYTES = 1 << 20
_ARROW_FILE_MARK = b"ARROW1"


def open_parquet(file: StoredFile) -> Input:
    """Open a Parquet file."""
    with file.reported(), _open_parquet(file) as opened:
        size_hint, schema = opened.metadata.num_rows, _check_names(opened.schema_arrow, file)
    return Input(file.name, partial(read_parquet, file), file.fingerprint, size_hint, schema=schema)


@contextmanager
def _open_parquet(file: StoredFile) -> Iterator[ParquetFile]:
    """Open a Parquet file to be read with little memory."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None
    with file.open_seekable() as stream:
        try:
            opened = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES)
        except pa.ArrowException as error:
            raise DataError(f"{file.address} is not a Parquet file: {_say(error)}") from error
        with opened:
            yield opened


def read_parquet(file: StoredFile, skip: Skip) -> Iterator[Row]:
    """Read the rows of a Parquet file. A damaged row group is rejected from where it is damaged, as one row."""
    import pyarrow as pa

    with file.reported(), _open_parquet(file) as opened:
        end = 0
        for group in range(opened.num_row_groups):
            size = opened.metadata.row_group(group)
            position, end = end, end + size.num_rows
            rows = min(_BATCH_ROWS, max(1, LONGEST_ROW * size.num_rows // max(1, size.total_byte_size)))
            try:
                for batch in opened.iter_batches(rows, row_groups=[group]):
                    yield from _read_batch(batch, position, skip)
                    position += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                reason = f"rows {position + 1} to {end} cannot be read: {_say(error)}"
                yield InvalidRow(position, position + 1, reason)


def open_arrow(file: StoredFile) -> Input:
    """Open an Arrow file, of the layout for files or for streams."""
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None
    with file.reported(), file.open_seekable() as stream:
        mark = stream.read(len(_ARROW_FILE_MARK))
        stream.seek(0)
        try:
            reader = pa.ipc.open_file(stream) if mark == _ARROW_FILE_MARK else pa.ipc.open_stream(stream)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file.address} is not an Arrow file: {_say(error)}") from error
        schema = _check_names(reader.schema, file)
    read = partial(_read_arrow, file, is_file=mark == _ARROW_FILE_MARK)
    return Input(file.name, read, file.fingerprint, schema=schema)


def _check_names(schema: Schema, file: StoredFile) -> Schema:
    double = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if double is not None:  # a row would hold the last of them alone
        raise DataError(f"{file.address} names a column twice: {double}", hint="rename one of them")
    return schema


def merge_schemas(schemas: Sequence[Schema | None]) -> Schema | None:
    """Find the schema that holds the rows of several files; None where one has none, or they disagree."""
    known = [schema for schema in schemas if schema is not None]
    if len(known) < len(schemas) or len(known) < 2:
        return known[0] if len(known) == len(schemas) == 1 else None
    import pyarrow as pa

    try:
        return pa.unify_schemas(known, promote_options="permissive")
    except pa.ArrowException:
        return None


def _read_arrow(file: StoredFile, skip: Skip, *, is_file: bool) -> Iterator[Row]:
    import pyarrow as pa

    position = 0
    with file.reported(), _map_arrow(file) as source:
        try:
            for batch in _read_arrow_batches(source, is_file=is_file):
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    part = batch.slice(start, _BATCH_ROWS)
                    yield from _read_checked(part, position, skip)
                    position += part.num_rows
        except (pa.ArrowException, OSError) as error:
            yield InvalidRow(position, position + 1, f"the rows from here on cannot be read: {_say(error)}")


@contextmanager
def _map_arrow(file: StoredFile) -> Iterator[object]:
    """Map a file of this machine into memory, so that even one batch of all its rows is read piece by piece."""
    import pyarrow as pa

    with pa.memory_map(str(file.path)) if file.path else file.open_seekable() as source:
        yield source


def _read_arrow_batches(source: object, *, is_file: bool) -> Iterator[RecordBatch]:
    import pyarrow as pa

    if is_file:
        reader = pa.ipc.open_file(source)
        yield from map(reader.get_batch, range(reader.num_record_batches))
    else:
        yield from pa.ipc.open_stream(source)


def _read_checked(batch: RecordBatch, start: int, skip: Skip) -> Iterator[Row]:
    """Read a batch whose offsets may be wrong. That costs only the rows they belong to."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        if batch.num_rows == 1:
            yield InvalidRow(start, start + 1, _say(error))
            return
        for index in range(batch.num_rows):
            yield from _read_checked(batch.slice(index, 1), start + index, skip)
    else:
        yield from _read_batch(batch, start, skip)


def _say(error: Exception) -> str:
    return " ".join(str(error).split())


def _read_batch(batch: RecordBatch, start: int, skip: Skip) -> Iterator[Row]:
    wanted = [index for index in range(batch.num_rows) if not skip(start + index)]
    if not wanted:
        return
    if batch.nbytes <= _BUFFER_BYTES:
        try:
            rows = batch.to_pylist()
        except (ValueError, OverflowError):
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
    except (ValueError, OverflowError) as error:  # a date beyond the year 9999
        return InvalidRow(position, position + 1, f"a value cannot be read: {_say(error)}")
    if count_bytes(values) > LONGEST_ROW:
        return InvalidRow(position, position + 1, TOO_LONG)
    return RawRow(position, position + 1, values)
