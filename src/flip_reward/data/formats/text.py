"""Text files in any encoding, read as UTF-8; and their first bytes, to find out how the rest is written."""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass
from typing import BinaryIO

from flip_reward.data.formats.compressed import BUFFER_BYTES, DamagedStreamError, decompress, read_some
from flip_reward.data.storage import StoredFile
from flip_reward.errors import OptionError

HEAD_BYTES = 1 << 16
OFFERED = "cp1252"
"""The encoding of most files that are not UTF-8: Windows' for western Europe and America."""
_PIECE_BYTES = 1 << 18
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file and its encoding."""

    file: StoredFile
    encoding: str | None = None
    """None for UTF-8."""
    chosen: bool = False
    """Whether the user named the encoding."""

    @classmethod
    def of(cls, file: StoredFile, encoding: str | None) -> TextFile:
        """Find out a file's encoding, if the user named none."""
        if encoding is not None:
            return cls(file, _check_encoding(encoding), chosen=True)
        return cls(file, _find_encoding(read_head(decompress(file.open(), file.name))))

    def open(self) -> BinaryIO:
        """Open its text as UTF-8. What no text can be comes out as bytes that are not UTF-8."""
        stream = decompress(self.file.open(), self.file.name)
        return stream if self.encoding is None else io.BufferedReader(_Recoded(stream, self.encoding), BUFFER_BYTES)

    def read_head(self) -> bytes:
        """Read its first 64 KiB as UTF-8, or all where it is damaged before that."""
        return read_head(self.open())

    def fingerprint(self) -> str:
        """Return what changes whenever its text does."""
        found = self.file.fingerprint()
        return f"{found} as {self.encoding or 'utf-8'}" if self.chosen else found

    @property
    def remark(self) -> str:
        """What was found out about its encoding."""
        return "" if self.chosen or self.encoding is None else self.encoding.upper()


def _check_encoding(name: str) -> str | None:
    try:
        io.TextIOWrapper(io.BytesIO(), name)  # refuses encodings of something else than text
        found = codecs.lookup(name).name
    except LookupError:
        raise OptionError(
            f"--encoding: there is no encoding {name!r}", hint="for example cp1252, utf-16, shift_jis or gb18030"
        ) from None
    return None if found in ("utf-8", "utf-8-sig") else found


def read_head(stream: BinaryIO) -> bytes:
    """Read the first 64 KiB of a stream, or all where it is damaged before that, and close it."""
    head = b""
    with stream:
        try:
            while len(head) < HEAD_BYTES and (piece := read_some(stream, HEAD_BYTES - len(head))):
                head += piece
        except DamagedStreamError:
            pass  # the readers say so in its place
    return head


def _find_encoding(head: bytes) -> str | None:
    """Find the encoding where it is certain: by a byte order mark, or by zeros in every other byte, as in UTF-16."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    half = len(head) // 2
    zeros = head[0 : 2 * half : 2].count(0), head[1 : 2 * half : 2].count(0)
    if min(zeros) == 0 and max(zeros) > half // 2:
        return "utf-16-be" if zeros[0] else "utf-16-le"
    return None


class _Recoded(io.RawIOBase):
    """A text in another encoding as UTF-8. Bytes and half characters that mean nothing come out as invalid UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._text = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        while not self._text and not self._ended:
            piece = read_some(self._stream, _PIECE_BYTES)
            self._ended = not piece
            try:
                text = self._decoder.decode(piece, final=self._ended)
            except UnicodeError as error:
                raise DamagedStreamError(f"the text is not {self._encoding} here ({error})") from error
            self._text = memoryview(text.encode("utf-8", "surrogatepass"))
        size = min(len(buffer), len(self._text))
        buffer[:size] = self._text[:size]
        self._text = self._text[size:]
        return size

    def close(self) -> None:
        self._stream.close()
        super().close()
