"""Open what a user names as input: files, standard input, or a data set on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TypeAlias

import orjson

from flip_reward.data.cloud import find_remote_files, is_address
from flip_reward.data.formats.columnar import merge_schemas, open_arrow, open_parquet
from flip_reward.data.formats.compressed import COMPRESSIONS, decompress
from flip_reward.data.formats.delimited import open_delimited
from flip_reward.data.formats.json_rows import open_json
from flip_reward.data.formats.spreadsheet import open_spreadsheet
from flip_reward.data.formats.text import read_head
from flip_reward.data.hub import HubName, open_hub
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.data.storage import (
    FoundFiles,
    LocalFile,
    StoredFile,
    TemporaryCopy,
    find_local_files,
    is_pattern,
    is_there,
)
from flip_reward.errors import DataError

__all__ = ["FORMATS", "INPUTS", "Input", "InvalidRow", "RawRow", "Row", "Skip", "open_input"]

_Opener: TypeAlias = Callable[[StoredFile, str | None], Input]

_TEXTS: Mapping[str, _Opener] = MappingProxyType(
    {
        ".jsonl": open_json,
        ".ndjson": open_json,
        ".json": open_json,
        ".csv": open_delimited,
        ".tsv": open_delimited,
        ".txt": open_delimited,
    }
)
_OTHERS: Mapping[str, Callable[[StoredFile], Input]] = MappingProxyType(
    {".parquet": open_parquet, ".arrow": open_arrow, ".feather": open_arrow}
)
_SHEETS = (".xlsx", ".xlsm")
FORMATS = (*_TEXTS, *_SHEETS, *_OTHERS)
"""File name endings that are understood; texts may be followed by ".gz" or ".zst"."""

INPUTS = (
    f"Files ({', '.join(FORMATS)}; texts also with .gz, .zst), folders of them, quoted patterns ('data/*.parquet'), "
    "addresses (https://, s3://, gs://, hf://), '-' for standard input, hub data sets (owner/name:split)."
)
"""What can be opened, for help and documentation."""

_NO_DATA = frozenset({"dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json"})


def open_input(source: str, *, encoding: str | None = None) -> Input:
    """Open an input by its name. Little is read yet: what tells how the rest is written.

    It is a file in one of `FORMATS`, on a disk or at an address; a folder or a pattern of such files, read one after
    the other; a folder that a data set was saved to; "book.xlsx:SHEET"; "-" for standard input; or a data set on the
    Hugging Face hub, "owner/name:split" or "hf://datasets/owner/name@revision/config:split", where everything after
    the name may be left out. A name that could be both is a file where such a file or its folder exists.

    Args:
        source: What the user wrote.
        encoding: How texts are encoded; None for UTF-8, or UTF-16 where that is certain.
    """
    if source == "-":
        return _open_standard_input(encoding)
    if not source.strip():
        raise DataError("the name of an input is empty", hint="name a file, or '-' for standard input")
    if _is_hub_name(source) and (name := HubName.parse(source)) is not None:
        return open_hub(name)
    source, part = _split_part(source)
    found = find_remote_files(source) if is_address(source) else find_local_files(source)
    if found.several:
        return _open_folder(found, part, encoding)
    return _open_file(found.files[0], part, encoding)


def _is_hub_name(source: str) -> bool:
    if is_address(source):
        return source.startswith("hf://") and not is_pattern(source) and _find_ending(source) is None
    path = PurePath(source.rpartition(":")[0] or source)
    is_file = is_there(source) or is_there(str(path.parent)) or is_pattern(source)
    return not is_file and path.suffix.lower() not in (*FORMATS, *COMPRESSIONS)


def _split_part(source: str) -> tuple[str, str | None]:
    """Take off the sheet of a workbook, or the split of a saved data set."""
    whole, colon, part = source.rpartition(":")
    if not colon or not part or "/" in part or is_there(source):
        return source, None
    return (whole, part) if whole.lower().endswith(_SHEETS) or Path(whole).is_dir() else (source, None)


def _find_ending(name: str) -> str | None:
    """Find which of the known formats a file's name ends with."""
    path = PurePath(name.lower().partition("?")[0])
    compressed = path.suffix in COMPRESSIONS
    ending = PurePath(path.stem).suffix if compressed else path.suffix
    return ending if ending in (_TEXTS if compressed else FORMATS) else None


def _open_file(file: StoredFile, part: str | None, encoding: str | None) -> Input:
    ending = _find_ending(file.name)
    if ending is None:
        raise DataError(
            f"{file.address} has no known file format",
            hint=f"formats are {', '.join(FORMATS)}, the first {len(_TEXTS)} also with .gz or .zst",
        )
    if ending in _SHEETS:
        return open_spreadsheet(file, part)
    if ending not in _TEXTS:
        return _OTHERS[ending](file)
    _refuse_other_content(file)
    return _TEXTS[ending](file, encoding)


def _refuse_other_content(file: StoredFile) -> None:
    """Refuse a file that is no text, whatever its name says."""
    if PurePath(file.name).suffix.lower() in COMPRESSIONS:
        return
    with file.reported(), file.open() as stream:
        head = stream.read(8)
    found = next((what for first, what in _NO_TEXT if head.startswith(first)), None)
    if found is not None:
        raise DataError(f"{file.address} is no text but {found}", hint="give it the name that fits, or unpack it")


def _open_folder(found: FoundFiles, part: str | None, encoding: str | None) -> Input:
    saved = {file.place: file for file in found.files if file.name in _NO_DATA}
    files = [file for file in found.files if file.name not in _NO_DATA]
    if "dataset_dict.json" in saved:
        split = _choose_split(found, saved["dataset_dict.json"], part)
        files = _list_saved(found, saved.get(f"{split}/state.json"), f"{split}/")
    elif "state.json" in saved:
        files = _list_saved(found, saved["state.json"], "")
    elif part is not None:
        raise DataError(f"{found.address} has no splits")
    endings = Counter(ending for file in files if (ending := _find_ending(file.name)))
    if len(endings) > 1:
        listed = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
        raise DataError(
            f"{found.address} holds files of several formats: {listed}",
            hint=f"name one of them: '{_narrow(found.address, min(endings))}'",
        )
    if not endings:
        raise DataError(f"{found.address} holds no file that can be read", hint=f"formats are {', '.join(FORMATS)}")
    read = [file for file in files if _find_ending(file.name)]
    left_out = [file.place for file in files if file not in read]
    remark = f"{len(read)} file{'s' * (len(read) != 1)}" + (f" (not {', '.join(left_out[:3])})" if left_out else "")
    return _chain(found.name, read, [_open_file(file, None, encoding) for file in read], remark)


def _narrow(address: str, ending: str) -> str:
    """Make a pattern for one format of that for a folder, or of a pattern.

    Example:
        >>> _narrow("data/", ".csv"), _narrow("data/*", ".csv"), _narrow("data/**", ".csv")
        ('data/**/*.csv', 'data/*.csv', 'data/**/*.csv')
    """
    folder, slash, last = address.rpartition("/")
    if is_pattern(address) and last != "**":
        return f"{folder}{slash}*{ending}"
    return f"{address.rstrip('/').removesuffix('/**')}/**/*{ending}"


def _choose_split(found: FoundFiles, listing: StoredFile, part: str | None) -> str:
    splits = _read_listing(listing, "splits")
    if part is None and len(splits) == 1:
        return splits[0]
    if part not in splits:
        problem = "has several splits" if part is None else f"has no split {part!r}"
        hint = f"name one: {found.address}:{splits[0]}"
        raise DataError(f"{found.address} {problem}: {', '.join(splits)}", hint=hint)
    return part


def _list_saved(found: FoundFiles, state: StoredFile | None, folder: str) -> list[StoredFile]:
    """List the files of a data set that was saved, in its order."""
    places = {file.place: file for file in found.files}
    names = [] if state is None else [folder + name for name in _read_listing(state, "_data_files")]
    missing = [name for name in names if name not in places]
    if not names or missing:
        lost = ", ".join(missing) or "its list of files"
        raise DataError(f"{found.address} is no whole data set: {lost} is missing")
    return [places[name] for name in names]


def _read_listing(file: StoredFile, key: str) -> list[str]:
    try:
        with file.reported(), file.open() as stream:
            listed = orjson.loads(stream.read())[key]
        return [one["filename"] if isinstance(one, dict) else str(one) for one in listed]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file.address} is damaged: {error}") from error


def _chain(name: str, files: Sequence[StoredFile], inputs: Sequence[Input], remark: str) -> Input:
    """Make one input of those of several files."""

    def fingerprint() -> str:
        listed = [f"{file.place}\0{one.fingerprint()}\n" for file, one in zip(files, inputs, strict=True)]
        return hashlib.sha256("".join(listed).encode()).hexdigest()

    hints = [one.size_hint for one in inputs]
    size_hint = None if None in hints else sum(hint or 0 for hint in hints)
    remarks = dict.fromkeys(filter(None, (one.remark for one in inputs)))
    schema = merge_schemas([one.schema for one in inputs])
    described = ", ".join([remark, *remarks])
    places = [file.place for file in files]
    return Input(name, partial(_read_chain, inputs, places), fingerprint, size_hint, described, schema, inputs)


def _read_chain(inputs: Sequence[Input], places: Sequence[str], skip: Skip) -> Iterator[Row]:
    first = count = 0

    def skip_shifted(position: int) -> bool:
        nonlocal count
        count = position + 1
        return skip(first + position)

    for one, place in zip(inputs, places, strict=True):
        count = 0
        for row in one.rows(skip_shifted):
            count = max(count, row.position + 1)
            position = first + row.position
            if isinstance(row, InvalidRow):
                yield InvalidRow(position, position + 1, f"{one.name}, line {row.line}: {row.reason}")
            else:
                yield replace(row, position=position, line=position + 1, source=place)
        first += count


def _open_standard_input(encoding: str | None) -> Input:
    """Keep standard input in a temporary file as long as the input is used, so that it can be read again."""
    kept = TemporaryCopy(sys.stdin.buffer)
    head = read_head(kept.path.open("rb"))
    compression = next((mark for first, mark in _COMPRESSED if head.startswith(first)), "")
    if compression:
        kept.rename(f"stdin{compression}")
        head = read_head(decompress(kept.path.open("rb"), kept.path.name))
    ending = next(ending for first, ending in _FIRST_BYTES if first.match(head))
    kept.rename(f"stdin{ending}{compression}")
    opened = _open_file(LocalFile(kept.path), None, encoding)
    return replace(opened, name="stdin", read=partial(_read_kept, kept, opened))


_COMPRESSED = ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"))
_NO_TEXT = (
    (b"PK\x03\x04", "a zip archive or an .xlsx workbook"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an .xls workbook: save it as .xlsx"),
    (b"PAR1", "a .parquet file"),
    (b"ARROW1", "an .arrow file"),
    *((first, f"a {ending} file") for first, ending in _COMPRESSED),
)
_FIRST_BYTES = (
    (re.compile(rb"PK\x03\x04"), ".xlsx"),
    (re.compile(rb"PAR1"), ".parquet"),
    (re.compile(rb"ARROW1|\xff\xff\xff\xff"), ".arrow"),
    (re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]*(?:[\[{]|$)"), ".jsonl"),
    (re.compile(rb""), ".csv"),
)
"""What tells the format of a file without a name."""


def _read_kept(_kept: TemporaryCopy, opened: Input, skip: Skip) -> Iterator[Row]:
    return opened.rows(skip)
