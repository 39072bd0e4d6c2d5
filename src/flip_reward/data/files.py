"""Writing that survives a full disk and kill -9."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from flip_reward.errors import StorageError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Raises:
        StorageError: The disk is full or not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Say what is wrong with a place that should be written to."""
    return StorageError(f"cannot write to {path}: {error.strerror or error}", hint="what was finished before is kept")


class AppendOnlyFile:
    """A file of whole lines. What `append` returned from has reached the operating system.

    A line that could not be written whole, because the disk was full, is taken back; a half-written last line that a
    killed process left is dropped when the file is opened.

    Args:
        path: Made when missing.

    Attributes:
        dropped_bytes: Length of the half-written line that was dropped at the opening.

    Raises:
        StorageError: The file cannot be opened.
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
        """Append whole lines, all or none of them.

        Raises:
            StorageError: The disk is full or not writable.
        """
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            raise storage_error(self._path, error) from error
        self._end += len(lines)

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
