"""Compressed files as plain streams.

They are decompressed by a small stream of our own: `gzip.open` loses up to a buffer of rows before a damaged place,
and `zstandard.open` ends silently where the data is cut off.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import PurePath
from typing import BinaryIO, Protocol

from flip_reward.errors import MissingDependencyError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""File name endings and what they mean."""

BUFFER_BYTES = 1 << 20
# Both formats can blow up a thousandfold and more (zstd over 10,000 times on repeated rows), and a piece is
# decompressed at once: 4 KiB keep that within tens of megabytes.
_PIECE_BYTES = 4096


class DamagedStreamError(Exception):
    """The data is damaged or ends too early. Everything before the damage has been read."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def decompress(file: BinaryIO, name: str) -> BinaryIO:
    """Return the contents of a file, decompressed if its name ends in ".gz" or ".zst". Closing it closes the file.

    The stream raises `DamagedStreamError` where the data is damaged or ends too early, after everything before that
    place has been read.
    """
    compression = COMPRESSIONS.get(PurePath(name).suffix.lower())
    if compression is None:
        return file
    try:
        make_decompressor, error = _load(compression)
    except MissingDependencyError:
        file.close()
        raise
    return io.BufferedReader(_DecompressedFile(file, compression, make_decompressor, error), BUFFER_BYTES)


def read_some(stream: BinaryIO, size: int) -> bytes:
    """Read some bytes. Where the stream is damaged behind them, `read` would lose them."""
    return bytes(stream.read1(size))  # type: ignore[attr-defined]  # every buffered stream has it


def _load(compression: str) -> tuple[Callable[[], _Decompressor], type[Exception]]:
    if compression == "gzip":
        return lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), zlib.error
    try:
        import zstandard
    except ImportError:
        raise MissingDependencyError("zstandard", extra="zstd") from None
    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError


class _DecompressedFile(io.RawIOBase):
    """The contents of a compressed file, which may be several compressed streams one after the other."""

    def __init__(
        self,
        file: BinaryIO,
        compression: str,
        make_decompressor: Callable[[], _Decompressor],
        error: type[Exception],
    ) -> None:
        self._file = file
        self._compression = compression
        self._make_decompressor = make_decompressor
        self._error = error
        self._decompressor: _Decompressor | None = None
        self._compressed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        while not self._plain:
            if not self._compressed:
                self._compressed = self._file.read(_PIECE_BYTES)
            if not self._compressed:
                if self._decompressor is not None:
                    raise DamagedStreamError(f"the {self._compression} data is cut off here")
                return 0
            self._plain = memoryview(self._decompress())
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size

    def _decompress(self) -> bytes:
        if self._decompressor is None:
            # Zeros may pad the end of a gzip file (tapes, block devices).
            self._compressed = self._compressed.lstrip(b"\0")
            if not self._compressed:
                return b""
            self._decompressor = self._make_decompressor()
        try:
            plain = self._decompressor.decompress(self._compressed)
        except self._error as error:
            raise DamagedStreamError(f"the {self._compression} data is damaged here ({error})") from error
        self._compressed = b""
        if self._decompressor.eof:
            self._compressed = self._decompressor.unused_data
            self._decompressor = None
        return plain

    def close(self) -> None:
        self._file.close()
        super().close()
