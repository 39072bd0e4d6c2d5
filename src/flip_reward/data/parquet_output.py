"""Rows of any one shape as a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from flip_reward.data.files import storage_error
from flip_reward.errors import MissingDependencyError

if TYPE_CHECKING:
    from pyarrow import Schema

_BATCH_ROWS = 1024


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
                while batch := list(islice(remaining, _BATCH_ROWS)):
                    writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=columns))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)
