"""`ResponseCache`: answers on disk, so that the same request is never paid for twice."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from flip_reward.core.chat.marks import KNOWN_MARKS
from flip_reward.core.conversation import Message
from flip_reward.core.replies.ending import Ending
from flip_reward.engines.base import (
    Classification,
    ClassifyRequest,
    Completion,
    LogprobRequest,
    Request,
    TokenLogprobs,
)
from flip_reward.errors import OptionError

logger = logging.getLogger(__name__)

_APPLICATION_ID = 0x464C4950  # "FLIP": tells our files from other SQLite databases
_SQLITE_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT_SECONDS = 5.0
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""The second where a message quotes a damaged file."""
_MAX_PENDING = 256
_HINT = "delete it, choose one on a local disk with --cache PATH, or do without one with --cache off"


def default_cache_path() -> Path:
    """Return where answers are kept by default: FLIP_REWARD_CACHE, or else the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("FLIP_REWARD_CACHE")
    return Path(chosen) if chosen else user_cache_path("flip-reward") / "responses.sqlite3"


def cache_key(identity: str, request: Request | LogprobRequest | ClassifyRequest) -> bytes:
    """Return the SHA-256 of everything an answer depends on: the engine's identity and all of the request.

    Caches on disk live by these bytes: they must not change.
    """
    if isinstance(request, LogprobRequest):
        prefix = request.prefix
        messages = (Message("user", prefix),) if isinstance(prefix, str) else prefix
        parts: list[object] = ["logprobs", isinstance(prefix, str), len(request.continuation)]
        continuation = request.continuation
    elif isinstance(request, ClassifyRequest):
        messages, continuation = request.messages, request.response
        parts = ["classify", len(continuation)]
    else:
        sampling, schema = request.sampling, request.json_schema
        messages = request.messages
        parts = [
            [float(sampling.temperature), sampling.max_tokens, sampling.top_p, sampling.seed],
            schema and [schema.name, schema.text],
        ]
        if request.n > 1:
            parts.append(request.n)
        if request.top_logprobs:
            parts.append(["top_logprobs", request.top_logprobs])
        continuation = ""
    contents = "".join([message.content for message in messages]) + continuation
    if KNOWN_MARKS.disarm(contents) is not contents:
        parts.append("disarmed")  # not an answer from when marks in texts were read as the template's
    header = json.dumps([identity, *parts, [[message.role, len(message.content)] for message in messages]])
    # With their lengths in the header, the contents need no escaping, which would take most of the time.
    return hashlib.sha256(f"{header}\n{contents}".encode(errors="surrogatepass")).digest()


def is_complete(completion: Completion | TokenLogprobs | Classification) -> bool:
    """Whether an answer is worth keeping: it is known to be whole, and the same request means the same answer."""
    if not isinstance(completion, Completion):
        return True
    return all(map(_is_whole, (completion, *completion.others)))


def _is_whole(reply: Completion) -> bool:
    if not reply.repeatable:
        return False
    # The probabilities of a first token are whole, however the reply went on.
    return bool(reply.top_logprobs or (reply.text and Ending.of(reply.finish_reason) is Ending.NATURAL))


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a cache holds: its file, the number of answers, and the bytes it takes on disk."""

    path: Path
    entries: int
    bytes: int


class ResponseCache:
    """Answers in one SQLite file, which several threads and processes may share.

    Writes are gathered and written together. When the file can no longer be read or written (a full disk), the cache
    warns once and switches itself off, and the run goes on without it. A file that cannot be used from the start
    (damaged, locked, not writable, not a response cache) is an `OptionError`.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            self.path = Path(path).expanduser()
        except RuntimeError as error:  # a home folder that nobody has
            raise OptionError(f"the response cache {path} cannot be used: {error}", hint=_HINT) from error
        self._own_lock = threading.RLock()
        self._process_id = os.getpid()
        self._left_behind: list[sqlite3.Connection | None] = []
        self._pending: dict[bytes, str] = {}
        self._off = False
        self._connection: sqlite3.Connection | None = self._open()

    @property
    def _lock(self) -> threading.RLock:
        """Guards everything below. A forked process begins anew: SQLite forbids it even to close the connection."""
        if self._process_id != os.getpid():
            self._own_lock, self._process_id = threading.RLock(), os.getpid()
            self._left_behind.append(self._connection)
            self._connection = None
            self._pending.clear()  # the other process writes it
        return self._own_lock

    def get(self, key: bytes, *, server: str | None = None) -> Completion | TokenLogprobs | Classification | None:
        """Return the answer kept under `key`, marked as cached; None when there is none.

        With a `server`, an answer that is known to be of another address counts as none.
        """
        with self._lock:
            value = self._pending.get(key)
            if value is None and not self._off:
                try:
                    row = self._connected().execute("SELECT value FROM responses WHERE key = ?", (key,)).fetchone()
                except (*_SQLITE_ERRORS, OptionError) as error:
                    self._switch_off(error)
                else:
                    value = row and row[0]
        return None if value is None else _decode(value, server)

    def put(
        self, key: bytes, completion: Completion | TokenLogprobs | Classification, *, server: str | None = None
    ) -> None:
        """Keep an answer, with the address of its server if it has one. It is written with the next batch."""
        with self._lock:
            if self._off:
                return
            self._pending[key] = _encode(completion, server)
            if len(self._pending) >= _MAX_PENDING:
                self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        with self._lock:
            if not self._pending:
                return
            try:
                connection = self._connected()
                with connection:
                    connection.executemany("INSERT OR REPLACE INTO responses VALUES (?, ?)", self._pending.items())
            except (*_SQLITE_ERRORS, OptionError) as error:
                self._switch_off(error)
            self._pending.clear()

    def info(self) -> CacheInfo:
        """Count what the cache holds."""
        with self._lock:
            self.flush()
            try:
                (entries,) = self._connected().execute("SELECT COUNT(*) FROM responses").fetchone()
            except _SQLITE_ERRORS as error:
                raise self._unusable(error) from error
            files = (self.path, self.path.with_name(self.path.name + "-wal"))
            return CacheInfo(self.path, entries, sum(file.stat().st_size for file in files if file.exists()))

    def clear(self) -> int:
        """Forget everything and return how many answers that was."""
        with self._lock:
            self._pending.clear()
            try:
                connection = self._connected()
                with connection:
                    removed = connection.execute("DELETE FROM responses").rowcount
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except _SQLITE_ERRORS as error:
                raise self._unusable(error) from error
            return removed

    def close(self) -> None:
        """Write what has been gathered and let go of the file. The next use opens it again."""
        with self._lock:
            self.flush()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_foreign_file(self.path)
            connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_SECONDS, check_same_thread=False)
        except (*_SQLITE_ERRORS, OSError) as error:
            raise self._unusable(error) from error
        try:
            _prepare(connection)
        except _SQLITE_ERRORS as error:
            connection.close()
            raise self._unusable(error) from error
        return connection

    def _unusable(self, error: Exception) -> OptionError:
        return OptionError(f"the response cache {self.path} cannot be used: {error}", hint=_HINT)

    def _switch_off(self, error: Exception) -> None:
        self._off = True
        logger.warning("the response cache %s is off from here on: %s", self.path, error)


def _refuse_foreign_file(path: Path) -> None:
    """SQLite takes a file too short to be a database for an empty one, and would overwrite it."""
    if path.exists():
        with path.open("rb") as file:
            start = file.read(len(_SQLITE_MAGIC))
        if start and start != _SQLITE_MAGIC:
            raise sqlite3.DatabaseError("file is not a database")


def _prepare(connection: sqlite3.Connection) -> None:
    application_id, tables = connection.execute(
        "SELECT application_id, (SELECT COUNT(*) FROM sqlite_master) FROM pragma_application_id"
    ).fetchone()
    if application_id != _APPLICATION_ID and tables:
        raise sqlite3.DatabaseError("it is the database of another program")
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a crash loses the last answers, never the file
    if not tables:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE IF NOT EXISTS responses (key BLOB PRIMARY KEY, value TEXT NOT NULL)")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait here while another process switches the same new file: it fails at once.
    deadline = time.monotonic() + _BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _encode(completion: Completion | TokenLogprobs | Classification, server: str | None) -> str:
    entry: dict[str, object]
    if isinstance(completion, TokenLogprobs):
        entry = {"logprobs": completion.values}
    elif isinstance(completion, Classification):
        entry = {"reward": completion.value}
    else:
        entry = {"text": completion.text, "finish_reason": completion.finish_reason}
        if completion.others:
            entry["others"] = [[other.text, other.finish_reason] for other in completion.others]
        if completion.top_logprobs:
            entry["top_logprobs"] = completion.top_logprobs
    return json.dumps(entry if server is None else {**entry, "server": server})


def _decode(value: str, server: str | None) -> Completion | TokenLogprobs | Classification | None:
    try:
        entry = json.loads(value)
        if server is not None and entry.get("server", server) != server:
            return None
        if "logprobs" in entry:
            return TokenLogprobs(tuple([value + 0.0 for value in entry["logprobs"]]), attempts=0, cached=True)
        if "reward" in entry:
            return Classification(_finite(entry["reward"]), attempts=0, cached=True)
        first, *others = [
            _completion(text, reason)
            for text, reason in [(entry["text"], entry["finish_reason"]), *entry.get("others", ())]
        ]
        top = tuple([("" + text, value + 0.0) for text, value in entry.get("top_logprobs", ())])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # a damaged entry counts as none
    return replace(first, others=tuple(others), top_logprobs=top)


def _finite(value: float) -> float:
    if not math.isfinite(value + 0.0):
        raise ValueError("no number")
    return value + 0.0


def _completion(text: object, finish_reason: object) -> Completion:
    if not isinstance(text, str | None) or not isinstance(finish_reason, str | None):
        raise TypeError("neither text nor nothing")
    return Completion(text, finish_reason, attempts=0, cached=True)


def open_cache(cache: str | None, environment: Mapping[str, str]) -> ResponseCache | None:
    """Open the cache, or none for "off". One that was named has to be usable; the default one is left out if not."""
    named = cache or environment.get("FLIP_REWARD_CACHE")
    if named == "off":
        return None
    if named:
        return ResponseCache(named)
    try:
        return ResponseCache(default_cache_path())
    except OptionError as error:
        logger.warning("%s; going on without a cache", error)
        return None
