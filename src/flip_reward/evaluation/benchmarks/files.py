"""Benchmarks that their authors keep in several files: what a file's path says, and an archive of a repository."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeAlias, cast
from urllib.request import urlopen

from flip_reward.data.formats.json_rows import read_json_values
from flip_reward.data.readers import open_input
from flip_reward.data.rows import RawRow, Row, skip_nothing
from flip_reward.data.storage import find_local_files
from flip_reward.errors import DataError

_TIMEOUT_SECONDS = 30

Columns: TypeAlias = Mapping[str, object]

ColumnsOf: TypeAlias = Callable[[str], Columns | None]
"""The columns that a file's path gives each of its rows; None for a file that is none of the benchmark's."""


def read_files(source: str, columns_of: ColumnsOf, encoding: str | None = None) -> Iterator[Row]:
    """Read a file, or the benchmark's files in a folder, with the columns that their paths say."""
    if not Path(source).is_dir():
        columns = columns_of(PurePosixPath(source.replace("\\", "/")).name)
        return join_rows([(columns or {}, open_input(source, encoding=encoding).rows())])
    found = find_local_files(source)
    files = [(columns_of(f"{found.name}/{file.place}"), str(Path(source, file.place))) for file in found.files]
    parts = [(columns, path) for columns, path in files if columns is not None]
    if not parts:
        raise DataError(
            f"there are no files of the benchmark in {source}", hint="name a file, or the authors' folder"
        )
    return join_rows((columns, open_input(path, encoding=encoding).rows()) for columns, path in parts)


def join_rows(parts: Iterable[tuple[Columns, Iterable[Row]]]) -> Iterator[Row]:
    """Read one source after the other. Each row has the columns that are said of its source, and its own."""
    start = 0
    for columns, rows in parts:
        position = -1
        for row in rows:
            position = row.position
            row = replace(row, position=start + row.position, line=start + row.line)  # noqa: PLW2901 - the same row
            yield replace(row, values={**columns, **row.values}) if isinstance(row, RawRow) else row
        start += position + 1


def read_archive(address: str, folder: str) -> Iterator[Row]:
    """Read the JSON files below a folder of a repository from its archive (.tar.gz), while it arrives."""
    try:
        with (
            urlopen(address, timeout=_TIMEOUT_SECONDS) as answer,  # noqa: S310 - our own addresses
            tarfile.open(fileobj=answer, mode="r|gz") as archive,
        ):
            yield from join_rows(({}, rows) for rows in _read_members(archive, folder))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"{address} cannot be read: {error}", hint="copy the repository to this machine, and name its folder"
        ) from error


def _read_members(archive: tarfile.TarFile, folder: str) -> Iterator[Iterator[Row]]:
    for member in archive:
        path = PurePosixPath(member.name)
        if folder in path.parts and path.suffix == ".json" and (stream := archive.extractfile(member)) is not None:
            yield read_json_values(cast(BinaryIO, stream), skip_nothing)
