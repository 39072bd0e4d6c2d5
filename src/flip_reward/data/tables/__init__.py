"""Rows as a file, by its name: JSON lines, CSV, TSV, Excel or Parquet, whole or not at all.

`arrow` writes Parquet and finds the types of columns, `sheets` what spreadsheets open, `values` turns any value into
JSON or text. `survey` finds the columns of rows and their types. `push` puts a table on the Hugging Face hub.
"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, get_type_hints

import orjson

from flip_reward.data.files import atomic_file, storage_error
from flip_reward.data.tables.arrow import in_batches, make_schema, write_parquet
from flip_reward.data.tables.sheets import check_excel, write_csv, write_excel
from flip_reward.data.tables.values import dump_json
from flip_reward.errors import MissingDependencyError, OptionError, StorageError

if TYPE_CHECKING:
    from pyarrow import Schema

STANDARD_OUTPUT = Path("-")
"""As an output: JSON lines to standard output."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table."""

    names: Sequence[str]
    make_schema: Callable[[], Schema]
    """The columns' types, which Parquet alone asks for."""


Writer: TypeAlias = Callable[[BinaryIO, Iterable[Mapping[str, object]], Layout], Sequence[str]]
"""Writes rows to a file, and returns what it had to change about them, in words."""


def write_table(path: Path, rows: Iterable[object], row_type: type) -> int:
    """Write rows to a file, which appears whole or not at all, and count them. Memory does not grow with the rows.

    The path's ending is one of `FORMATS`; an older file of this name is replaced. Rows are whatever orjson writes as
    objects with the fields of `row_type`, a dataclass or TypedDict, which are the columns.
    """
    count = 0

    def counted() -> Iterator[Mapping[str, object]]:
        nonlocal count
        for row in rows:
            count += 1
            yield orjson.loads(orjson.dumps(row))

    write_rows(path, counted(), Layout(tuple(get_type_hints(row_type)), partial(make_schema, row_type)))
    return count


def write_rows(path: Path, rows: Iterable[Mapping[str, object]], layout: Layout) -> Sequence[str]:
    """Write rows as `write_table` does, or to standard output; return what was changed about them, in words."""
    write = check_output(path)
    if path == STANDARD_OUTPUT:
        return write(sys.stdout.buffer, rows, layout)
    with atomic_file(path) as file:
        return write(file, rows, layout)


def check_output(path: Path, *, rows: int | None = None) -> Writer:
    """Find out before a run whether its output could be written at its end; see `write_table`."""
    if path == STANDARD_OUTPUT:
        return _write_json_lines
    name = path.name.lower()
    write = next((writer for ending, writer in _WRITERS.items() if name.endswith(ending)), None)
    if write is None:
        raise OptionError(f"{path} has no known file format", hint=f"formats are {', '.join(_WRITERS)}")
    try:
        _check_place(path)
    except OSError as error:
        raise storage_error(path, error) from error
    if name.endswith(".parquet"):
        check_parquet()
    elif name.endswith(".xlsx"):
        check_excel(rows)
    elif name.endswith(".zst"):
        _load_zstandard()
    return write


def check_overwrites(path: Path, inputs: Iterable[str]) -> None:
    """Refuse an output that is, or lies in, an input: a file, a folder, a pattern, or a sheet of a workbook."""
    if path == STANDARD_OUTPUT:
        return
    place = path.resolve()
    for name in inputs:
        for known in {name, name.rpartition(":")[0] or name}:
            found = Path(known).resolve()
            if place == found or (found in place.parents and name != "-") or place.match(str(found)):
                raise OptionError(f"{path} is an input, or part of one, and would be overwritten")


def check_parquet() -> None:
    """Make sure that Parquet can be written."""
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None


def _load_zstandard() -> Callable[[BinaryIO], BinaryIO]:
    try:
        import zstandard
    except ImportError:
        raise MissingDependencyError("zstandard", extra="zstd") from None
    return lambda file: zstandard.ZstdCompressor().stream_writer(file, closefd=False)


def _check_place(path: Path) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise StorageError(f"cannot write to {path}: there is no folder {folder}", hint=f"mkdir -p {folder}")
    if path.is_dir():
        raise StorageError(f"cannot write to {path}: it is a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"cannot write to {path}: the folder {folder} is not writable")


def _write_json_lines(file: BinaryIO, rows: Iterable[Mapping[str, object]], _layout: Layout) -> Sequence[str]:
    for batch in in_batches(rows):
        lines = b"".join(dump_json(row) + b"\n" for row in batch)
        file.write(lines)
    return ()


def _write_csv(
    file: BinaryIO, rows: Iterable[Mapping[str, object]], layout: Layout, *, delimiter: str = ",", mark: bool = False
) -> Sequence[str]:
    write_csv(file, rows, layout.names, delimiter=delimiter, mark=mark)
    return ()


def _write_excel(file: BinaryIO, rows: Iterable[Mapping[str, object]], layout: Layout) -> Sequence[str]:
    return write_excel(file, rows, layout.names)


def _write_parquet(file: BinaryIO, rows: Iterable[Mapping[str, object]], layout: Layout) -> Sequence[str]:
    write_parquet(file, rows, layout.make_schema())
    return ()


@contextmanager
def _gzipped(file: BinaryIO) -> Iterator[BinaryIO]:
    # No name and no time inside: the same rows are the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
        yield compressed  # type: ignore[misc]  # it has what a writer needs


@contextmanager
def _zstandard(file: BinaryIO) -> Iterator[BinaryIO]:
    with _load_zstandard()(file) as compressed:
        yield compressed


def _compressed(compress: Callable[[BinaryIO], AbstractContextManager[BinaryIO]], write: Writer) -> Writer:
    def write_compressed(file: BinaryIO, rows: Iterable[Mapping[str, object]], layout: Layout) -> Sequence[str]:
        with compress(file) as compressed:
            return write(compressed, rows, layout)

    return write_compressed


_TEXTS: dict[str, Writer] = {
    ".jsonl": _write_json_lines,
    ".csv": _write_csv,
    ".tsv": partial(_write_csv, delimiter="\t"),
}
_WRITERS: dict[str, Writer] = {
    **_TEXTS,
    ".csv": partial(_write_csv, mark=True),
    **{f"{ending}.gz": _compressed(_gzipped, write) for ending, write in _TEXTS.items()},
    **{f"{ending}.zst": _compressed(_zstandard, write) for ending, write in _TEXTS.items()},
    ".parquet": _write_parquet,
    ".xlsx": _write_excel,
}
FORMATS = tuple(_WRITERS)
"""File name endings that can be written."""
