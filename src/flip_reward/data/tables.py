"""Scored rows as one file in input order, JSON lines or Parquet.

Rows of any one shape as a Parquet file.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import orjson

from flip_reward.data.files import storage_error
from flip_reward.errors import MissingDependencyError, OptionError, StorageError

if TYPE_CHECKING:
    from pyarrow import Schema


OutputRow: TypeAlias = Mapping[str, object]

_BATCH_ROWS = 4096


def write_output(path: Path, rows: Iterable[OutputRow]) -> int:
    """Write records to a file: JSON lines, gzipped JSON lines or Parquet, by its name.

    The file appears whole or not at all, and replaces an older one of the same name. Memory does not grow with the
    rows. Parquet has one schema, that of a run's records, whatever the rows hold.

    Args:
        path: Ends in ".jsonl", ".jsonl.gz" or ".parquet".
        rows: The records by field, in the order they are to be written in.

    Returns:
        How many rows were written.

    Raises:
        OptionError: The format is unknown by the file's name.
        MissingDependencyError: pyarrow is not installed.
        StorageError: The folder is missing or not writable, or the disk is full. Nothing is left behind.
    """
    write = check_output(path)
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            count = write(file, rows)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return count


Writer: TypeAlias = Callable[[BufferedIOBase, Iterable[OutputRow]], int]


def check_output(path: Path) -> Writer:
    """Find out before a run whether its output could be written at its end.

    Raises:
        OptionError: The format is unknown by the file's name.
        MissingDependencyError: pyarrow is not installed.
        StorageError: The folder is missing or not writable, or the path is itself a folder.
    """
    name = path.name.lower()
    write = next((writer for ending, writer in _WRITERS.items() if name.endswith(ending)), None)
    if write is None:
        raise OptionError(f"the format of {path} is not known by its name", hint=f"known are {', '.join(_WRITERS)}")
    try:
        _check_place(path)
    except OSError as error:
        raise storage_error(path, error) from error
    if write is _write_parquet:
        _record_schema()
    return write


def _check_place(path: Path) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise StorageError(f"cannot write to {path}: there is no folder {folder}", hint=f"mkdir -p {folder}")
    if path.is_dir():
        raise StorageError(f"cannot write to {path}: it is a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"cannot write to {path}: the folder {folder} is not writable")


def _write_json_lines(file: BufferedIOBase, rows: Iterable[OutputRow]) -> int:
    count = 0
    for batch in _batches(rows):
        file.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in batch))
        count += len(batch)
    return count


def _write_gzipped_json_lines(file: BufferedIOBase, rows: Iterable[OutputRow]) -> int:
    # No name and no time inside: the same rows are the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
        return _write_json_lines(compressed, rows)


def _write_parquet(file: BufferedIOBase, rows: Iterable[OutputRow]) -> int:
    schema = _record_schema()
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


_WRITERS: dict[str, Writer] = {
    ".jsonl": _write_json_lines,
    ".jsonl.gz": _write_gzipped_json_lines,
    ".parquet": _write_parquet,
}


def _batches(rows: Iterable[OutputRow]) -> Iterator[Sequence[OutputRow]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH_ROWS)):
        yield batch


def _record_schema() -> Schema:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None
    usage = pa.struct([(name, pa.int64()) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")])
    sample = pa.struct(
        [
            ("outcome", pa.string()),
            ("reward", pa.float64()),
            ("precision", pa.float64()),
            ("recall", pa.float64()),
            ("inferred_instruction", pa.string()),
            ("reasoning", pa.string()),
            ("raw_reply", pa.string()),
        ]
    )
    likelihood = pa.struct(
        [("log_probability", pa.float64()), ("tokens", pa.int64()), ("prior_log_probability", pa.float64())]
    )
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("row", pa.int64()),
            pa.field("group_id", pa.string(), nullable=False),
            pa.field("group_size", pa.int32()),
            pa.field("response_index", pa.int32(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("reward", pa.float64()),
            pa.field("precision", pa.float64()),
            pa.field("recall", pa.float64()),
            pa.field("instruction", pa.string()),
            pa.field("inferred_instruction", pa.string()),
            pa.field("reasoning", pa.string()),
            pa.field("raw_reply", pa.string()),
            pa.field("detail", pa.string()),
            pa.field("usage", usage),
            pa.field("attempts", pa.int32()),
            pa.field("latency_seconds", pa.float64()),
            pa.field("cached", pa.bool_()),
            pa.field("spread", pa.float64()),
            pa.field("samples", pa.list_(sample)),
            pa.field("likelihood", likelihood),
            pa.field("cautions", pa.list_(pa.string())),
        ]
    )


_ROW_GROUP_ROWS = 1024


def write_parquet(path: Path, rows: Iterable[Mapping[str, object]], schema: Callable[[ModuleType], Schema]) -> None:
    """Write rows to a Parquet file, which appears whole or not at all. Memory does not grow with the rows.

    Args:
        path: Replaced when it is there already.
        rows: By column.
        schema: Makes their schema with pyarrow, which it is given.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        StorageError: The folder is missing or not writable, or the disk is full. Nothing is left behind.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None
    columns = schema(pa)
    remaining = iter(rows)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            with pq.ParquetWriter(file, columns, compression="zstd") as writer:
                while batch := list(islice(remaining, _ROW_GROUP_ROWS)):
                    writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=columns))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)
