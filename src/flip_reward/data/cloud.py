"""Files behind addresses: https://, s3://, gs://, hf:// and whatever else fsspec opens. They are streamed."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote

from flip_reward.data.formats.compressed import BUFFER_BYTES
from flip_reward.data.storage import FoundFiles, StoredFile, TemporaryCopy, is_hidden, is_pattern
from flip_reward.errors import DataError, MissingDependencyError
from flip_reward.redact import show_address

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from fsspec.spec import AbstractBufferedFile

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*")
"""The part of an address that may hold a key."""
_BLOCK_BYTES = 4 << 20
_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "Content-MD5")


def is_address(name: str) -> bool:
    """Whether a name is an address.

    Example:
        >>> is_address("s3://bucket/rows.jsonl"), is_address("data/rows.jsonl")
        (True, False)
    """
    return _SCHEME.match(name) is not None


def find_remote_files(address: str) -> FoundFiles:
    """Find the file at an address, or those of a folder or a pattern; a DataError where there are none."""
    shown = show_address(address)
    with _reported(shown):
        system, path = _open_system(address)
        if not _is_web(system) and is_pattern(path):
            found, root = system.glob(path), re.split(r"[*?\[]", path)[0].rpartition("/")[0]
        elif not _is_web(system) and (address.endswith("/") or system.isdir(path)):
            found, root = system.find(path), path.rstrip("/")
        else:
            name = unquote(show_address(path).rstrip("/").rpartition("/")[2])
            return FoundFiles(name, shown, [RemoteFile(system, path, name, shown)], several=False)
        places = {one: one.removeprefix(root).lstrip("/") for one in sorted(found)}
        files = [
            RemoteFile(system, one, place, f"{shown.partition('://')[0]}://{one.lstrip('/')}")
            for one, place in places.items()
            if not is_hidden(place)
        ]
    if not files:
        raise DataError(f"there are no files at {shown}")
    return FoundFiles(root.rpartition("/")[2] or "files", shown, files, several=True)


class RemoteFile(StoredFile):
    """A file that fsspec opens."""

    def __init__(self, system: AbstractFileSystem, path: str, place: str, address: str) -> None:
        self._system = system
        self._path = path
        self._copy: TemporaryCopy | None = None
        self.name, self.place, self.address = place.rpartition("/")[2], place, address

    def open(self) -> BinaryIO:
        """Open its bytes for reading, from the first to the last."""
        # Servers of web pages need not answer requests for parts of a file.
        block = 0 if _is_web(self._system) else _BLOCK_BYTES
        with _reported(self.address):
            file = self._system.open(self._path, "rb", block_size=block)
        size = None if _is_web(self._system) else file.size
        return io.BufferedReader(_WholeFile(file, self.address, size), BUFFER_BYTES)

    def open_seekable(self) -> BinaryIO:
        """Open its bytes for reading in any order, from the web by way of a temporary copy."""
        if not _is_web(self._system):
            return self.open()
        if self._copy is None:
            with self.open() as stream:
                self._copy = TemporaryCopy(stream)
        return self._copy.path.open("rb")

    def fingerprint(self) -> str:
        """Return the tag its server gives its content, or a SHA-256 of it."""
        with _reported(self.address):
            known = self._system.info(self._path)
        tag = next((known[name] for name in _TAGS if known.get(name)), None)
        if tag is not None:
            return f"{tag} {known.get('size')}"
        with self.open() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a BufferedReader

    def reported(self) -> AbstractContextManager[None]:
        """Do nothing: its stream says itself what goes wrong."""
        return nullcontext()


class _WholeFile(io.RawIOBase):
    """A remote file. A connection that ends early is an error, and never the end of the file."""

    def __init__(self, file: AbstractBufferedFile, address: str, size: int | None) -> None:
        self._file = file
        self._address = address
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._size is not None

    def seek(self, offset: int, whence: int = 0) -> int:
        with _reported(self._address):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        with _reported(self._address):
            read = self._file.read(len(buffer))
            if not read and self._size is not None and self.tell() < self._size:
                raise EOFError(f"the connection ended after {self.tell():,} of {self._size:,} bytes")
        buffer[: len(read)] = read
        return len(read)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _is_web(system: AbstractFileSystem) -> bool:
    return "http" in system.protocol or "https" in system.protocol


def _open_system(address: str) -> tuple[AbstractFileSystem, str]:
    try:
        import fsspec
    except ImportError:
        raise MissingDependencyError("fsspec", extra="cloud") from None
    scheme = address.partition("://")[0].lower()
    options: dict[str, object] = {}
    if scheme in ("http", "https"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
        options = {"client_kwargs": {"timeout": timeout}}
    elif scheme in ("s3", "s3a"):
        options = {"config_kwargs": {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS}}
    try:
        system, path = fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        if scheme in ("s3", "s3a", "gs", "gcs"):
            package = "s3fs" if scheme.startswith("s3") else "gcsfs"
            raise MissingDependencyError(package, extra="cloud") from None
        raise DataError(f"{scheme}:// cannot be opened: {error}") from None
    except ValueError as error:
        raise DataError(f"{show_address(address)} cannot be opened: {error}") from None
    return system, path


@contextmanager
def _reported(address: str) -> Iterator[None]:
    """Turn whatever the libraries behind fsspec raise into an error that names the address."""
    try:
        yield
    except (DataError, MissingDependencyError):
        raise
    except Exception as error:  # noqa: BLE001 - those of aiohttp, botocore and fsspec have no common root
        # fsspec says that there is no file also where there is no server.
        cause = (error.__cause__ if isinstance(error, FileNotFoundError) else None) or error
        if isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404:
            raise DataError(f"there is no file {address}") from None
        reason = _QUERY.sub(r"\1", " ".join(str(cause).split())) or type(cause).__name__
        raise DataError(f"{address} cannot be read: {reason}") from None
