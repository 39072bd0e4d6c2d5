"""The batches of a run on disk.

RUN/batch/batches.json          the batches, in order, and what the model wants otherwise
RUN/batch/requests-0001.jsonl   what batch 1 asks, or asked
RUN/batch/replies.jsonl         what came back; the last line of a request counts
"""

from __future__ import annotations

import os
import secrets
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from heapq import merge
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.data.files import AppendOnlyFile, storage_error, write_atomically
from flip_reward.engines.batch.lines import (
    KEY_DIGITS,
    MOST_BYTES,
    MOST_REQUESTS,
    BatchLine,
    LinesRead,
    ReplyLine,
    read_replies,
    short_key,
)
from flip_reward.errors import RunError
from flip_reward.scoring.record_index import LineIndex

BATCH = "batch"
"""The folder of a run's batches."""
UNSENT, SENDING, EXPORTED = "unsent", "sending", "exported"
"""States of a batch that no server knows of; of one that is "sending", a server may."""
FETCHED = "fetched.jsonl"
"""Where a file of replies lies while it is taken over."""
_BATCHES, _REPLIES, _REQUESTS = "batches.json", "replies.jsonl", "requests-*.jsonl"
_BYTES_AT_ONCE = 1 << 20
_KEYS_UNSORTED = 1 << 16
_KEY = slice(len('{"custom_id":"'), len('{"custom_id":"') + KEY_DIGITS)
_ANSWERED = b'"status_code":2'


class SubmittedBatch(BaseModel):
    """One batch, as `batches.json` keeps it."""

    model_config = ConfigDict(extra="forbid")

    number: int
    requests: int
    bytes: int
    token: str
    """Names the batch where its id is not known: it goes with it as metadata."""
    id: str | None = None
    """None until it is known to be sent; for one that was exported, the folder that it was written to."""
    server: str | None = None
    """The address that it was sent to."""
    state: str = UNSENT
    """As the API names it; or "unsent", "sending", "exported"."""
    completed: int = 0
    failed: int = 0
    """How many of its requests were answered, and failed, as the API counts them."""
    expires_at: int | None = None
    """In seconds since 1970."""
    output_file: str | None = None
    error_file: str | None = None
    error: str | None = None
    """Why it failed as a whole, or why its files are gone."""
    collected: bool = False
    """Everything that it will ever answer is in `replies.jsonl`: what is not is asked again."""

    @property
    def to_send(self) -> bool:
        """Whether it waits to be sent."""
        return self.state in (UNSENT, SENDING)

    @property
    def awaited(self) -> bool:
        """Whether a server has it, and its replies were not fetched."""
        return not (self.collected or self.to_send or self.state == EXPORTED)

    @property
    def in_files(self) -> bool:
        """Whether it was exported, and its replies were not imported."""
        return self.state == EXPORTED and not self.collected


class _Batches(BaseModel):
    """What `batches.json` holds."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    changes: list[str] = []
    batches: list[SubmittedBatch] = []


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken over from a file of replies."""

    replies: int = 0
    known: int = 0
    """Of requests that had been answered already."""
    unknown: int = 0
    """Of requests that are none of this run's."""
    damaged: int = 0
    unfinished: bool = False
    """The last line is half-written."""


class BatchStore:
    """The batches of one run folder, in which a `BatchEngine` finds replies and notes requests.

    Nothing is written before there is a request. One process at a time may use it: whoever holds the run folder's
    lock. It takes 16 bytes of memory a reply, and 8 a request.

    Args:
        run: The run folder.
        most_requests: How many requests a batch takes.
        most_bytes: How long its file may be.

    Attributes:
        batches: All that were ever made, in order.
        missing: How many requests were wanted that no batch holds.
        failures: How many of those failed before.
        failure: Why the last one did.
        answered: Whether any request was ever answered with a completion.
    """

    def __init__(self, run: Path, *, most_requests: int = MOST_REQUESTS, most_bytes: int = MOST_BYTES) -> None:
        self.path = run / BATCH
        self.most_requests, self.most_bytes = most_requests, most_bytes
        found = self._read_batches()
        self.batches, self.changes = found.batches, found.changes
        self.missing = self.failures = 0
        self.failure: str | None = None
        self.answered = False
        self._held: _Keys | None = None  # by batches that are not collected
        self._asked: _Keys | None = None  # by any batch
        self._wanted = _Keys()
        self._writer: _RequestsWriter | None = None
        self._taken = _Keys()
        self._kept: dict[str, ReplyLine] = {}
        self._replies: LineIndex | None = None
        self._load_replies()

    def _read_batches(self) -> _Batches:
        path = self.path / _BATCHES
        try:
            return _Batches.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return _Batches()
        except (OSError, ValidationError) as error:
            raise RunError(
                f"{path} is damaged", hint="restore it: without it batches would be asked twice"
            ) from error

    def _load_replies(self) -> None:
        self.close()
        if (self.path / _REPLIES).exists():
            self._replies = LineIndex(self.path / _REPLIES, self._read_key)

    def _read_key(self, line: bytes, _: int) -> int | None:
        key = _key_of(line)
        self.answered = self.answered or (key is not None and _ANSWERED in line[_KEY.stop : _KEY.stop + 40])
        return key

    def find(self, key: str) -> ReplyLine | None:
        """Return the last reply to a request."""
        short = short_key(key)
        if key in self._kept or self._replies is None or short is None:
            return self._kept.get(key)
        line = self._replies.find(short)
        reply = None if line is None else ReplyLine.from_line(line)
        return reply if reply is not None and reply.key == key else None

    def want(self, line: BatchLine, failure: str | None = None) -> None:
        """Note a request, unless a batch that is not collected holds it; it is asked where `writing` is on."""
        short = int(line.key[:16], 16)
        if short in self._open_requests or not self._wanted.add(short):
            return
        self.missing += 1
        if failure is not None:
            self.failures += 1
            self.failure = failure
        if self._writer is not None:
            self._writer.write(line)

    def keep(self, reply: ReplyLine) -> None:
        """Keep the reply to a request that was asked right away."""
        self._append(reply.to_line())
        self._kept[reply.key] = reply
        self.answered = self.answered or reply.answered

    def note_changes(self, changes: Sequence[str]) -> None:
        """Keep what the model wants otherwise."""
        if list(changes) != self.changes:
            self.changes = list(changes)
            self.save()

    @property
    def _open_requests(self) -> _Keys:
        if self._held is None:
            self._held = self._read_requests(batch for batch in self.batches if not batch.collected)
        return self._held

    def _read_requests(self, batches: Iterator[SubmittedBatch]) -> _Keys:
        keys = _Keys()
        for batch in batches:
            for key in self._read_keys(batch):
                keys.add(key)
        return keys

    def _read_keys(self, batch: SubmittedBatch) -> Iterator[int]:
        path = self.requests_file(batch)
        try:
            with path.open("rb") as file:
                yield from (key for key in map(_key_of, file) if key is not None)
        except OSError as error:
            raise RunError(f"{path} cannot be read", hint="without it requests would be asked twice") from error

    def count_replies(self, batch: SubmittedBatch) -> int:
        """Count the requests of a batch that are answered, or that this store took any reply to."""
        return sum(key in self._taken or self._is_answered(key) for key in self._read_keys(batch))

    def _is_answered(self, key: int) -> bool:
        line = None if self._replies is None else self._replies.find(key)
        return line is not None and ReplyLine.from_line(line).answered

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write what is wanted meanwhile into new requests files, and note them as unsent batches."""
        self._wanted, self.missing, self.failures = _Keys(), 0, 0
        self._writer = writer = _RequestsWriter(self, len(self.batches))
        try:
            yield
            writer.finish()
            self.batches += writer.batches
            if writer.batches:
                self.save()
        finally:
            self._writer = None
            self._held = self._asked = None
            writer.close()

    def requests_file(self, batch: SubmittedBatch) -> Path:
        """Return the file of what a batch asks."""
        return self.path / f"requests-{batch.number:04}.jsonl"

    def take(self, path: Path) -> Taken:
        """Take over the replies of an output or error file; `find` knows them when it returns."""
        if self._asked is None:
            self._asked = self._read_requests(iter(self.batches))
        found, read, lines, size, answered = Taken(), LinesRead(), [b""], 0, _Keys()
        for reply in read_replies(path, read):
            short = short_key(reply.key)
            if short is None or short not in self._asked:
                found = replace(found, unknown=found.unknown + 1)
                continue
            earlier = self.find(reply.key)
            if short in answered or earlier == reply or (earlier is not None and earlier.answered):
                found = replace(found, known=found.known + 1)
                continue
            if reply.answered:
                answered.add(short)
            self._taken.add(short)
            found = replace(found, replies=found.replies + 1)
            lines.append(reply.to_line())
            size += len(lines[-1])
            if size > _BYTES_AT_ONCE:
                self._append(b"".join(lines))
                lines, size = [], 0
        self._append(b"".join(lines))
        self._load_replies()
        return replace(found, damaged=read.damaged, unfinished=read.unfinished)

    def _append(self, lines: bytes) -> None:
        self.make_folder()
        with AppendOnlyFile(self.path / _REPLIES) as file:
            file.append(lines)
            file.sync()

    def collect(self, batch: SubmittedBatch) -> None:
        """Note that everything a batch will ever answer was taken."""
        batch.collected = True
        self._held = None
        self.save()

    def save(self) -> None:
        """Write `batches.json`, after a batch was changed."""
        self.make_folder()
        content = _Batches(changes=self.changes, batches=self.batches).model_dump_json(indent=1)
        write_atomically(self.path / _BATCHES, content.encode() + b"\n")

    def make_folder(self) -> None:
        """Make the folder where there is none."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """Close the files."""
        if self._replies is not None:
            self._replies.close()
            self._replies = None


def remove_batches(run: Path) -> None:
    """Remove what a store wrote into a run folder."""
    path = run / BATCH
    if path.is_symlink() or not path.is_dir():
        return
    for file in (*path.glob(_REQUESTS), path / FETCHED, path / _REPLIES, path / _BATCHES):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # somebody keeps other things there
        path.rmdir()


def _key_of(line: bytes) -> int | None:
    """Return the short key of a line that `BatchLine` or `ReplyLine` wrote; None of any other."""
    return short_key(line[_KEY].decode(errors="replace"))


class _RequestsWriter:
    """Writes requests into files that a batch takes, whole when `finish` returns."""

    def __init__(self, store: BatchStore, earlier: int) -> None:
        self._store = store
        self._earlier = earlier
        self._file: BinaryIO | None = None
        self.batches: list[SubmittedBatch] = []

    def write(self, line: BatchLine) -> None:
        """Add a request, in a new file where the last one is full."""
        text = line.to_line()
        last = self.batches[-1] if self.batches else None
        if (
            last is None
            or last.requests == self._store.most_requests
            or last.bytes + len(text) > self._store.most_bytes
        ):
            last = self._begin()
        assert self._file is not None  # noqa: S101
        try:
            self._file.write(text)
        except OSError as error:
            raise storage_error(self._store.requests_file(last), error) from error
        last.requests += 1
        last.bytes += len(text)

    def _begin(self) -> SubmittedBatch:
        self.finish()
        number = self._earlier + len(self.batches) + 1
        batch = SubmittedBatch(number=number, requests=0, bytes=0, token=secrets.token_hex(16))
        path = self._store.requests_file(batch)
        self._store.make_folder()
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise storage_error(path, error) from error
        self.batches.append(batch)
        return batch

    def finish(self) -> None:
        """Bring what was written to the disk."""
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.close()
        except OSError as error:
            raise storage_error(self._store.requests_file(self.batches[-1]), error) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


class _Keys:
    """A set of short keys, of which most take 8 bytes: sorted arrays, each longer than the next."""

    def __init__(self) -> None:
        self._arrays: list[array[int]] = []
        self._latest: set[int] = set()

    def __contains__(self, key: int) -> bool:
        return key in self._latest or any(_holds(one, key) for one in self._arrays)

    def add(self, key: int) -> bool:
        """Add a key; say whether it was new."""
        if key in self:
            return False
        self._latest.add(key)
        if len(self._latest) == _KEYS_UNSORTED:
            self._arrays.append(array("Q", sorted(self._latest)))
            self._latest = set()
            while len(self._arrays) > 1 and len(self._arrays[-2]) <= len(self._arrays[-1]):
                last = self._arrays.pop()
                self._arrays[-1] = array("Q", merge(self._arrays[-1], last))
        return True


def _holds(keys: array[int], key: int) -> bool:
    place = bisect_left(keys, key)
    return place < len(keys) and keys[place] == key
