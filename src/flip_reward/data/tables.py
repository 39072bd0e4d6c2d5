"""Rows of one shape as a file: JSON lines, gzipped JSON lines or Parquet, by its name."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    BinaryIO,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import orjson

from flip_reward.data.files import atomic_file, storage_error
from flip_reward.errors import MissingDependencyError, OptionError, StorageError

if TYPE_CHECKING:
    from pyarrow import DataType, Field, Schema

Writer: TypeAlias = Callable[[BinaryIO, Iterable[object], type], int]

_BATCH_ROWS = 1024


def write_table(path: Path, rows: Iterable[object], row_type: type) -> int:
    """Write rows to a file, which appears whole or not at all, and count them. Memory does not grow with the rows.

    The path ends in ".jsonl", ".jsonl.gz" or ".parquet"; an older file of this name is replaced. Rows are whatever
    orjson writes as objects with the fields of `row_type`, a dataclass or TypedDict, which are Parquet's columns.
    """
    write = check_output(path)
    with atomic_file(path) as file:
        return write(file, rows, row_type)


def check_output(path: Path) -> Writer:
    """Find out before a run whether its output could be written at its end; see `write_table`."""
    name = path.name.lower()
    write = next((writer for ending, writer in _WRITERS.items() if name.endswith(ending)), None)
    if write is None:
        raise OptionError(f"{path} has no known file format", hint=f"formats are {', '.join(_WRITERS)}")
    try:
        _check_place(path)
    except OSError as error:
        raise storage_error(path, error) from error
    if write is _write_parquet:
        try:
            import pyarrow as pa  # noqa: F401
        except ImportError:
            raise MissingDependencyError("pyarrow", extra="parquet") from None
    return write


def _check_place(path: Path) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise StorageError(f"cannot write to {path}: there is no folder {folder}", hint=f"mkdir -p {folder}")
    if path.is_dir():
        raise StorageError(f"cannot write to {path}: it is a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"cannot write to {path}: the folder {folder} is not writable")


def _write_json_lines(file: BinaryIO | gzip.GzipFile, rows: Iterable[object], _row_type: type) -> int:
    count = 0
    for batch in _batches(rows):
        file.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in batch))
        count += len(batch)
    return count


def _write_gzipped_json_lines(file: BinaryIO, rows: Iterable[object], row_type: type) -> int:
    # No name and no time inside: the same rows are the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
        return _write_json_lines(compressed, rows, row_type)


def _write_parquet(file: BinaryIO, rows: Iterable[object], row_type: type) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, count = make_schema(row_type), 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            plain = [orjson.loads(orjson.dumps(row)) for row in batch]
            writer.write_batch(pa.RecordBatch.from_pylist(plain, schema=schema))
            count += len(batch)
    return count


_WRITERS: dict[str, Writer] = {
    ".jsonl": _write_json_lines,
    ".jsonl.gz": _write_gzipped_json_lines,
    ".parquet": _write_parquet,
}


def _batches(rows: Iterable[object]) -> Iterator[Sequence[object]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH_ROWS)):
        yield batch


def make_schema(row_type: type) -> Schema:
    """Make the Parquet schema of a dataclass or TypedDict; a field is nullable where its type allows None.

    Example:
        >>> from typing import TypedDict
        >>> make_schema(TypedDict("Row", {"name": str, "values": tuple[float, ...], "reward": float | None}))
        name: string not null
        values: list<item: double not null> not null
          child 0, item: double not null
        reward: double
    """
    import pyarrow as pa

    return pa.schema(_make_fields(row_type))


def _make_fields(row_type: type) -> list[Field]:
    return [_make_field(name, hint) for name, hint in get_type_hints(row_type).items()]


def _make_field(name: str, hint: object) -> Field:
    import pyarrow as pa

    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    [kind] = [choice for choice in choices if choice is not NoneType]
    return pa.field(name, _make_type(kind), nullable=NoneType in choices)


def _make_type(kind: object) -> DataType:
    import pyarrow as pa

    if get_origin(kind) in (tuple, list):
        return pa.list_(_make_field("item", get_args(kind)[0]))
    if get_origin(kind) is Literal:
        return pa.string()
    if not isinstance(kind, type):
        raise TypeError(f"there is no column for {kind}")
    if is_dataclass(kind) or is_typeddict(kind):
        return pa.struct(_make_fields(kind))
    plain = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return plain[str if issubclass(kind, Enum) else kind]
