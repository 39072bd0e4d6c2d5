"""Find lines of a run folder's files by a number, so that memory holds 16 bytes a line and not the lines."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from flip_reward.errors import RunError
from flip_reward.scoring.records import MOST_RESPONSES, MOST_ROWS, Record

_ROW_SHIFT = 24  # a key is the row above the response's index: up to 16 million responses a row


class LineIndex:
    """The lines of a file by a key; of several with one key the last counts.

    A half-written last line is left out, and so are lines with None as their key.
    """

    def __init__(self, path: Path, read_key: Callable[[bytes, int], int | None]) -> None:
        self._keys, self._offsets = array("Q"), array("Q")
        self._file = path.open("rb")
        with ExitStack() as held:
            held.callback(self._file.close)
            if not self._read_keys(read_key):
                self._sort()
            held.pop_all()

    def _read_keys(self, read_key: Callable[[bytes, int], int | None]) -> bool:
        """Read all keys, and say whether they are in order and each occurs once."""
        ordered, last, offset = True, -1, 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            key = read_key(line, number)
            if key is not None:
                ordered = ordered and key > last
                last = key
                self._keys.append(key)
                self._offsets.append(offset)
            offset += len(line)
        return ordered

    def _sort(self) -> None:
        order = sorted(range(len(self._keys)), key=self._keys.__getitem__)  # stable: the last of a key comes last
        keys, offsets = array("Q"), array("Q")
        for index in order:
            if keys and keys[-1] == self._keys[index]:
                offsets[-1] = self._offsets[index]
                continue
            keys.append(self._keys[index])
            offsets.append(self._offsets[index])
        self._keys, self._offsets = keys, offsets

    def find(self, key: int) -> bytes | None:
        """Read the line of a key."""
        place = bisect_left(self._keys, key)
        return self._read(place) if place < len(self._keys) and self._keys[place] == key else None

    def __iter__(self) -> Iterator[bytes]:
        """Read the lines in the order of their keys."""
        return map(self._read, range(len(self._keys)))

    def _read(self, place: int) -> bytes:
        self._file.seek(self._offsets[place])
        return self._file.readline()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RecordIndex:
    """The records of a run folder's `records.jsonl`, or of some rows there, by row and response."""

    def __init__(self, path: Path, rows: Container[int] | None = None) -> None:
        self._path, self._rows = path, rows
        self.largest_group = 0
        try:
            self._lines = LineIndex(self._path, self._read_key)
        except OSError as error:
            raise RunError(f"{path.parent} is not a run folder", hint=f"it has no readable {path.name}") from error

    def _read_key(self, line: bytes, number: int) -> int | None:
        try:
            fields = orjson.loads(line)
            row, index = fields["row"], fields["response_index"]
            self.largest_group = max(self.largest_group, fields["group_size"])
        except (ValueError, TypeError, KeyError):
            raise damaged(self._path, number) from None
        if type(row) is type(index) is int and 0 <= row < MOST_ROWS and 0 <= index < MOST_RESPONSES:
            return row << _ROW_SHIFT | index if self._rows is None or row in self._rows else None
        raise damaged(self._path, number)

    def find(self, row: int, response_index: int) -> Record | None:
        """Return the last record of a response."""
        line = self._lines.find(row << _ROW_SHIFT | response_index)
        return None if line is None else self._parse(line)

    def __iter__(self) -> Iterator[Record]:
        """Read the last record of every response, ordered by row and response."""
        return map(self._parse, self._lines)

    def _parse(self, line: bytes) -> Record:
        try:
            return Record.from_line(line)
        except ValueError:
            raise damaged(self._path, self._number_of(line)) from None

    def _number_of(self, wanted: bytes) -> int:
        with self._path.open("rb") as file:
            return next((number for number, line in enumerate(file, start=1) if line == wanted), 0)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def damaged(path: Path, number: int) -> RunError:
    """Make the error for a line that is no record."""
    return RunError(
        f"{path}, line {number}: damaged record",
        hint="remove the line; its response is scored again when the run is resumed",
    )
