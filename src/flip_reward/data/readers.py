"""Open what a user names as input: a file, standard input, or a data set on the Hugging Face hub."""

from __future__ import annotations

import difflib
import hashlib
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, TypeAlias

from flip_reward.data.formats import COMPRESSIONS, open_parquet, open_stream, read_csv, read_json_lines, read_parquet
from flip_reward.data.hub import HubName, open_hub
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.errors import DataError, StorageError

__all__ = ["FORMATS", "Input", "InvalidRow", "RawRow", "Row", "Skip", "open_input"]

StreamReader: TypeAlias = Callable[[BinaryIO, Skip], Iterator[Row]]

_STREAM_READERS: dict[str, StreamReader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
    ".csv": partial(read_csv, delimiter=","),
    ".tsv": partial(read_csv, delimiter="\t"),
}
FORMATS = (*_STREAM_READERS, ".parquet")
"""File name endings that are understood; each but ".parquet" may be followed by ".gz" or ".zst"."""


def open_input(source: str) -> Input:
    """Open an input by its name. Nothing is read yet, except the schema of Parquet files and of data sets on the hub.

    It is a file in one of `FORMATS`; "-" for JSON lines from standard input; or a data set on the Hugging Face hub,
    "owner/name:split" or "hf://datasets/owner/name@revision/config:split", where everything after the name may be
    left out. A name that could be both is a file where such a file or its folder exists.
    """
    if source == "-":
        return Input("stdin", read=_read_stdin)
    hub_name = HubName.parse(source)
    if hub_name is not None and (source.startswith("hf://") or not _looks_like_a_file(source)):
        return open_hub(hub_name)
    return _open_file(Path(source))


def _looks_like_a_file(source: str) -> bool:
    path = Path(source)
    return path.exists() or path.parent.is_dir() or path.suffix.lower() in (*FORMATS, *COMPRESSIONS)


def _read_stdin(skip: Skip) -> Iterator[Row]:
    return read_json_lines(sys.stdin.buffer, skip)


def _open_file(path: Path) -> Input:
    with _reported(path):
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise DataError(f"{path} is {kind}", hint='name a file, or pipe JSON lines into "-"')
        ending = _format_ending(path)
        if ending == ".parquet":
            with open_parquet(path) as file:
                size_hint = file.metadata.num_rows
            return Input(path.name, partial(_read_parquet_file, path), partial(_hash_file, path), size_hint)
        with open_stream(path) as stream:
            if path.suffix.lower() == ".json":
                _refuse_json_array(path, stream)
        reader = _STREAM_READERS[ending]
        one_row_a_line = reader is read_json_lines and path.suffix.lower() == ending
        size_hint = _count_lines(path) if one_row_a_line else None
        return Input(path.name, partial(_read_stream_file, path, reader), partial(_hash_file, path), size_hint)


def _format_ending(path: Path) -> str:
    name = path.name.lower()
    compressed = path.suffix.lower() in COMPRESSIONS
    if compressed:
        name = name[: -len(path.suffix)]
    ending = Path(name).suffix
    if ending not in FORMATS or (compressed and ending == ".parquet"):
        raise DataError(
            f"{path} has no known file format",
            hint=f"formats are {', '.join(FORMATS)}, all but the last also with .gz or .zst",
        )
    return ending


def _refuse_json_array(path: Path, stream: BinaryIO) -> None:
    if stream.read(1024).lstrip().startswith(b"["):
        raise DataError(
            f"{path} holds one JSON array; one object a line is needed",
            hint=f"jq -c '.[]' {path.name} > {path.stem}.jsonl",
        )


def _read_stream_file(path: Path, read: StreamReader, skip: Skip) -> Iterator[Row]:
    with _reported(path), open_stream(path) as stream:
        try:
            yield from read(stream, skip)
        except DataError as error:
            raise DataError(f"{path}: {error}", hint=error.hint) from error


def _read_parquet_file(path: Path, skip: Skip) -> Iterator[Row]:
    with _reported(path):
        yield from read_parquet(path, skip)


def _count_lines(path: Path) -> int:
    """Count lines, blank ones included: good enough for a progress bar."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
            last = block
    return lines if last.endswith(b"\n") else lines + 1


def _hash_file(path: Path) -> str:
    with _reported(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into messages that name the file."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", hint=_suggest_near_names(path)) from None
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise DataError(f"{path} cannot be read: {reason}") from error


def _suggest_near_names(path: Path) -> str | None:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"there is no folder {path.parent} either"
    if near := difflib.get_close_matches(path.name, names):
        return f"near names in {path.parent}: {', '.join(near)}"
    return f"for a data set on the hub, write hf://datasets/{path}" if HubName.parse(str(path)) else None


@contextmanager
def rereadable_inputs() -> Iterator[Callable[[str], Input]]:
    """Open inputs as `open_input` does, but keep standard input in a temporary file while the block runs.

    The copy has a fingerprint, so a run over standard input is resumed when the same rows come again.
    """
    with TemporaryDirectory(prefix="flip-reward-") as folder:

        def open_rereadable(source: str) -> Input:
            if source != "-":
                return open_input(source)
            kept = Path(folder) / "stdin.jsonl"
            try:
                with kept.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file)
            except OSError as error:
                raise StorageError(
                    f"cannot keep standard input: {error.strerror or error}", hint="set TMPDIR to a disk with room"
                ) from error
            return replace(open_input(str(kept)), name="stdin")

        yield open_rereadable
