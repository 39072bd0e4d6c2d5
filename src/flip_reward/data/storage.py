"""The files that a user names: one, those of a folder, or those that a pattern matches."""

from __future__ import annotations

import difflib
import glob
import hashlib
import os
import re
import shutil
import stat
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO

from flip_reward.data.formats.compressed import BUFFER_BYTES
from flip_reward.data.hub import HubName
from flip_reward.errors import DataError, StorageError

_PATTERN = re.compile(r"[*?\[]")


class StoredFile(ABC):
    """A file that can be opened again and again, on a disk of this machine or elsewhere."""

    name: str
    """Its name, without folders."""
    address: str
    """What messages call it."""
    place: str
    """Its path below the folder it was found in, with slashes."""
    path: Path | None = None
    """Where it lies, if that is a disk of this machine."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """Open its bytes for reading, from the first to the last."""

    def open_seekable(self) -> BinaryIO:
        """Open its bytes for reading in any order."""
        return self.open()

    @abstractmethod
    def fingerprint(self) -> str:
        """Return what changes whenever its content does."""

    @abstractmethod
    def reported(self) -> AbstractContextManager[None]:
        """Turn what goes wrong with opening and reading into a DataError that names the file."""


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What a name stands for."""

    name: str
    """What identifies it, without folders."""
    address: str
    """What the user wrote, as messages may show it."""
    files: Sequence[StoredFile]
    """In the order of their paths."""
    several: bool
    """Whether it is a folder or a pattern, even if that holds one file."""


class LocalFile(StoredFile):
    """A file on a disk of this machine."""

    def __init__(self, path: Path, place: str = "") -> None:
        self.path = path
        self.name, self.address, self.place = path.name, str(path), place or path.name
        shown = self.address.encode("utf-8", "backslashreplace").decode()
        if shown != self.address:  # names are written down as texts
            raise DataError(f"the name {shown} is not UTF-8", hint="rename the file")

    def open(self) -> BinaryIO:
        """Open its bytes for reading."""
        return open(self.address, "rb", buffering=BUFFER_BYTES)  # noqa: PTH123 - `Path.open` looks the same up

    def fingerprint(self) -> str:
        """Return the SHA-256 of its bytes."""
        with self.reported(), self.open() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a BufferedReader

    def reported(self) -> AbstractContextManager[None]:
        """Turn errors of the operating system into messages that name the file."""
        return _reported(Path(self.address))


class TemporaryCopy:
    """What a stream holds as a file of this machine, which exists as long as this object does."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            folder = Path(mkdtemp(prefix="flip-reward-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self.path = folder / "copy"
            with self.path.open("wb") as file:
                shutil.copyfileobj(stream, file)
        except OSError as error:
            raise StorageError(
                f"cannot keep a copy of the input: {error.strerror or error}", hint="set TMPDIR to a disk with room"
            ) from error

    def rename(self, name: str) -> None:
        """Give the file another name."""
        self.path = self.path.rename(self.path.with_name(name))


def is_there(name: str) -> bool:
    """Whether there is a file or a folder with a name, which need not be one that could exist."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def is_pattern(name: str) -> bool:
    """Whether a name holds wildcards."""
    return _PATTERN.search(name) is not None


def find_local_files(source: str) -> FoundFiles:
    """Find the files that a name stands for on this machine; a DataError where there are none."""
    path = Path(source)
    with _reported(path):
        if is_pattern(source) and not is_there(source):
            return _match(source)
        if path.is_dir():
            files = [LocalFile(one, one.relative_to(path).as_posix()) for one in _walk(path)]
            return FoundFiles(path.resolve().name or "files", source, files, several=True)
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} is not a regular file", hint='name a file, or pipe rows into "-"')
        return FoundFiles(path.name, source, [LocalFile(path)], several=False)


def is_hidden(place: str) -> bool:
    """Whether a file in a folder is not data: ".name" and "_name", or in such a folder."""
    return any(part.startswith((".", "_")) for part in place.split("/"))


def _match(pattern: str) -> FoundFiles:
    root = Path(*_fixed_parts(pattern))
    found = sorted(Path(one) for one in glob.glob(pattern, recursive=True) if Path(one).is_file())  # noqa: PTH207
    places = {one: os.path.relpath(one, root).replace(os.sep, "/") for one in found}
    files = [LocalFile(one, place) for one, place in places.items() if not is_hidden(place)]
    if not files:
        raise DataError(f"no file matches {pattern}")
    return FoundFiles(root.resolve().name or "files", pattern, files, several=True)


def _fixed_parts(pattern: str) -> list[str]:
    parts = Path(pattern).parts
    wild = next(index for index, part in enumerate(parts) if is_pattern(part))
    return list(parts[:wild])


def _walk(folder: Path) -> Iterator[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not is_hidden(one)]
        found += [Path(parent, name) for name in names if not is_hidden(name)]
    return iter(sorted(found))


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        if path.is_symlink():
            raise DataError(f"{path} is a link to {path.readlink()}, which is not there") from None
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
