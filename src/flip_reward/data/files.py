"""Writing that survives a full disk and kill -9."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from flip_reward.errors import StorageError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when the block ends, whole or not at all; links are written through.

    Readers see the old content or the new, never a part. When the block fails the old content stays.
    """
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, which appears whole or not at all; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Make the error for a file that cannot be written."""
    return StorageError(f"cannot write to {path}: {error.strerror or error}", hint="what was finished before is kept")


class AppendOnlyFile:
    """A file of whole lines. When `append` returns, its lines have reached the operating system.

    A line that could not be written whole, because the disk was full, is removed again; a half-written last line that
    a killed process left is dropped when the file is opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            size = os.lseek(self._descriptor, 0, os.SEEK_END)
            self._end = _end_of_last_line(self._descriptor, size)
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
        except OSError as error:
            raise storage_error(path, error) from error
        self.dropped_bytes = size - self._end

    def append(self, lines: bytes) -> None:
        """Append whole lines, all or none of them."""
        try:
            written = os.write(self._descriptor, lines)
            while written < len(lines):
                written += os.write(self._descriptor, lines[written:])
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            raise storage_error(self._path, error) from error
        self._end += len(lines)

    def sync(self) -> None:
        """Return when all lines are on the disk, and so survive a loss of power."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise storage_error(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end_of_last_line(descriptor: int, size: int) -> int:
    step = 1 << 16
    end = size
    while end > 0:
        start = max(0, end - step)
        os.lseek(descriptor, start, os.SEEK_SET)
        block = os.read(descriptor, end - start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
