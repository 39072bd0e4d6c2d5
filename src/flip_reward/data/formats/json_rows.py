"""JSON: an object a line, or objects over as many lines as they like, one after another or in an array."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from flip_reward.data.formats.compressed import COMPRESSIONS, DamagedStreamError, read_some
from flip_reward.data.formats.limits import LONGEST_ROW, TOO_LONG, read_line, skip_rest
from flip_reward.data.formats.text import OFFERED, TextFile
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.data.storage import StoredFile

_PIECE_BYTES = 1 << 18
_EXACT = frozenset((str, int, bool, type(None)))
"""Top-level values of these types were not rounded, and hold none that were."""
_LARGE_INTEGER = b":" + b"0" * 19
_FOLDED = bytes.maketrans(b"123456789 [,-\t", b"000000000:::::")
"""Makes `_LARGE_INTEGER` of every number of 19 digits; a regular expression would take as long as the parser."""
_OFFER = f" (or in another encoding: --encoding {OFFERED})"
# {"version": 1, "data": [{...
_LIST_IN_OBJECT = re.compile(
    r'\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*)*"(data|rows|records|examples|items|instances|samples)"'
    r'\s*:\s*\[\s*(?=\]|\{(?!\s*"(?:role|from)"))'
)


class JsonLayout(Enum):
    """How a JSON file is written, and how that is said."""

    LINES = ""
    ARRAY = "a JSON array"
    LIST_IN_OBJECT = "the list in a JSON object"
    VALUES = "JSON objects, one after another"


def open_json(file: StoredFile, encoding: str | None = None) -> Input:
    """Open a JSON file, whatever its layout."""
    text = TextFile.of(file, encoding)
    layout = find_json_layout(text)
    remark = ", ".join(filter(None, (layout.value, text.remark)))
    if layout is not JsonLayout.LINES:
        return Input(file.name, partial(_read_values, text, layout), text.fingerprint, remark=remark)
    countable = file.path if file.path and text.encoding is None else None
    size_hint = None if countable is None or countable.suffix.lower() in COMPRESSIONS else _count_lines(countable)
    return Input(file.name, partial(_read_lines, text), text.fingerprint, size_hint, remark)


def _read_lines(text: TextFile, skip: Skip) -> Iterator[Row]:
    with text.file.reported(), text.open() as stream:
        yield from read_json_lines(stream, skip)


def _read_values(text: TextFile, layout: JsonLayout, skip: Skip) -> Iterator[Row]:
    with text.file.reported(), text.open() as stream:
        yield from read_json_values(stream, skip, in_object=layout is JsonLayout.LIST_IN_OBJECT)


def _count_lines(path: Path) -> int:
    """Count lines, blank ones included: good enough for a progress bar."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
            last = block
    return lines if last.endswith(b"\n") else lines + 1


def find_json_layout(text: TextFile) -> JsonLayout:
    """Find out how a file is written from how it begins."""
    head = text.read_head().decode("utf-8-sig", "replace").lstrip()
    if head.startswith("["):
        return JsonLayout.ARRAY
    if _LIST_IN_OBJECT.match(head) and not _begins_with_whole_line(text):
        return JsonLayout.LIST_IN_OBJECT
    first, _, rest = head.partition("\n")
    if not first.startswith("{") or _is_json(first):
        return JsonLayout.LINES
    second = rest.lstrip().partition("\n")[0]
    spread = first.rstrip().endswith(("{", "[", ",", ":")) and second and not _is_json(second)
    return JsonLayout.VALUES if spread or _ends_before_another(first) else JsonLayout.LINES


def _begins_with_whole_line(text: TextFile) -> bool:
    """Whether the first line is an object by itself, and there are others."""
    try:
        with text.open() as stream:
            line = next((line for line in iter(partial(read_line, stream), b"") if not line.isspace()), b"")
            return _is_json(line.decode("utf-8-sig", "replace")) and bool(stream.read(_PIECE_BYTES).strip())
    except DamagedStreamError:
        return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _ends_before_another(text: str) -> bool:
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip(", \t\r").startswith("{")


def read_json_lines(stream: BinaryIO, skip: Skip) -> Iterator[Row]:
    """Read one JSON object a line. Blank lines are skipped and have no position."""
    position, line_number = -1, 0
    try:
        for line_number, line in enumerate(iter(partial(stream.readline, LONGEST_ROW + 1), b""), 1):
            if too_long := len(line) > LONGEST_ROW:
                skip_rest(stream)
            if line.isspace():
                continue
            position += 1
            if skip(position):
                continue
            if too_long:
                yield InvalidRow(position, line_number, TOO_LONG)
                continue
            try:
                values = orjson.loads(line)
            except orjson.JSONDecodeError:
                yield _read_json_again(position, line_number, line)
                continue
            if type(values) is dict and _EXACT.issuperset(map(type, values.values())):
                yield RawRow(position, line_number, values)
            else:
                yield _to_row(position, line_number, _with_large_integers(values, line))
    except DamagedStreamError as error:
        yield InvalidRow(position + 1, line_number + 1, str(error))


def _read_json_again(position: int, line_number: int, line: bytes) -> Row:
    """Read what the fast parser refuses and Python's accepts (NaN, a byte order mark), or say what is wrong."""
    try:
        values = json.loads(line.rstrip().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{error.object[error.start]:02x} at column {error.start + 1}{_OFFER}"
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        reason = f"not readable as JSON: {error}"
    else:
        return _to_row(position, line_number, values)
    return InvalidRow(position, line_number, reason)


def _with_large_integers(values: object, line: bytes) -> object:
    """Read a row again where the fast parser may have rounded an integer of more than 64 bits, such as an id."""
    if _LARGE_INTEGER in line.translate(_FOLDED):
        with suppress(ValueError, RecursionError):
            return json.loads(line)
    return values


def _to_row(position: int, line_number: int, value: object) -> Row:
    if type(value) is dict:
        return RawRow(position, line_number, value)
    kind = "a list" if isinstance(value, list) else "a single value"
    return InvalidRow(position, line_number, f"not a JSON object but {kind}")


def read_json_values(stream: BinaryIO, skip: Skip, *, in_object: bool = False) -> Iterator[Row]:
    """Read JSON objects that stand one after another or in an array; `in_object`, in a list inside an object.

    Where the JSON is broken, one last row is rejected: it cannot be known where the next one begins.
    """
    values, position = _JsonValues(stream), -1
    depth = values.skip_to_list() if in_object else 0
    try:
        while (mark := values.peek()) or depth:
            if mark in ("[", "]") and depth == (mark == "]"):
                depth = 1 - depth
                values.advance()
                if in_object and not depth:
                    values.skip_rest_of_object()
            elif mark == ",":
                values.advance()
            else:
                found = values.read()
                position += 1
                if not skip(position):
                    yield _to_row(position, found.line, found.value) if found.is_utf8 else found.reject(position)
        values.check_end()
    except _BrokenJsonError as error:
        yield InvalidRow(position + 1, values.line, f"{error}; nothing after it is read")


class _BrokenJsonError(Exception):
    """What follows cannot be read."""


class _FoundValue(NamedTuple):
    line: int
    value: object
    is_utf8: bool

    def reject(self, position: int) -> InvalidRow:
        return InvalidRow(position, self.line, f"not UTF-8{_OFFER}")


class _JsonValues:
    """The JSON values of a text. Only what has not been read yet is kept."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decode_bytes = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._decode_json = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._damage = ""
        self._ended = False
        self.line = 1

    def peek(self) -> str:
        """Return the next character that is not blank; nothing at the end."""
        while True:
            found = _NOT_BLANK.search(self._text, self._at)
            self._move(found.start() if found else len(self._text))
            if found or not self._read_more():
                return self._text[self._at : self._at + 1]

    def advance(self) -> None:
        """Go on behind one character."""
        self._move(self._at + 1)

    def read(self) -> _FoundValue:
        """Read the value that begins here."""
        while True:
            try:
                value, end = self._decode_json(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if self._read_more():
                    continue
                raise self._broken(error) from None
            if end < len(self._text) or not self._read_more():  # a number might go on
                break
        written, line = self._text[self._at : end], self.line
        self._move(end)
        return _FoundValue(line, value, written.isascii() or not _INVALID_BYTE.search(written))

    def skip_to_list(self) -> int:
        """Go on to the first item of the list in an object."""
        self.peek()
        found = _LIST_IN_OBJECT.match(self._text, self._at)
        if found:
            self._move(found.end())
        return 1 if found else 0

    def skip_rest_of_object(self) -> None:
        """Go on behind an object, of which a list has been read."""
        self._text, self._at = '{"":0' + self._text[self._at :], 0
        self.read()

    def check_end(self) -> None:
        """Make sure that the text did not end before its time."""
        if self._damage:
            raise _BrokenJsonError(self._damage)

    def _broken(self, error: Exception) -> _BrokenJsonError:
        if self._damage:
            return _BrokenJsonError(self._damage)
        if len(self._text) - self._at > LONGEST_ROW:
            return _BrokenJsonError(TOO_LONG)
        if self._at >= len(self._text):
            return _BrokenJsonError("the JSON is cut off here")
        if isinstance(error, json.JSONDecodeError):
            line = self.line + self._text.count("\n", self._at, error.pos)
            return _BrokenJsonError(f"not JSON: {error.msg.removesuffix(' at')} in line {line}")
        return _BrokenJsonError(f"not readable as JSON: {error}")

    def _move(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _read_more(self) -> bool:
        """Read as much again as is kept, so that what is parsed anew stays in proportion."""
        kept = len(self._text) - self._at
        if self._ended or kept > LONGEST_ROW:
            return False
        pieces, wanted = [self._text[self._at :]], max(_PIECE_BYTES, kept)
        while wanted > 0 and not self._ended:
            try:
                read = read_some(self._stream, _PIECE_BYTES)
            except DamagedStreamError as error:
                read, self._damage = b"", str(error)
            self._ended = not read
            pieces.append(self._decode_bytes(read, self._ended))
            wanted -= len(read)
        self._text, self._at = "".join(pieces), 0
        return True


_NOT_BLANK = re.compile(r"[^ \t\r\n]")
_INVALID_BYTE = re.compile("[\udc80-\udcff]")
