"""`/v1/rewards` as lines (NDJSON): a group a line in, its result a line out, in order, while more of them come.

What is held of a stream is bounded: the next line is read when earlier ones are answered, so a client that is faster
than the engine waits. The limits of a body, its size and its time, are here those of a line.
"""

from __future__ import annotations

import asyncio
import re
import time
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson
from pydantic_core import from_json

from flip_reward.core.conversation import Group
from flip_reward.core.json_body import mend_surrogates
from flip_reward.server.contracts.rewards import read_group, read_id, show_group
from flip_reward.server.exchange import JSON, Context, Exchange, withdraw_cancellation
from flip_reward.server.problems import ApiError, ClientGoneError, Problem, RowError, stopping
from flip_reward.server.scorer import Result, Row, describe, log
from flip_reward.server.settings import Limits

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

NDJSON = "application/x-ndjson"
RESPONSES_AT_ONCE = 1024
"""How many responses of one stream are read and not yet answered; a single group may have more."""
SENT_AT_ONCE_BYTES = 2**16

_NDJSON = re.compile(rb"application/(?:x-)?(?:ndjson|jsonl|jsonlines)\s*(?:;|$)", re.IGNORECASE)
_FLAGS = {"true": True, "false": False}


class StreamingExchange(Exchange):
    """The endpoint of `/v1/rewards`: one JSON value, or lines."""

    media_types = f"JSON, with Content-Type: application/json, or a group a line, with {NDJSON}"

    def reads(self, content_type: bytes) -> bool:
        """Whether a body of this type can be read."""
        return super().reads(content_type) or _NDJSON.match(content_type) is not None

    def make_context(self, scope: Scope) -> Context:
        """Collect what a question needs; lines have no room for `details`, so the address may say it."""
        if not scope["query_string"]:
            return super().make_context(scope)
        asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("details", ["false"])
        if len(asked) != 1 or asked[0] not in _FLAGS:
            raise ApiError(422, Problem.BAD_REQUEST, "details: true or false, once", close=True)
        return replace(super().make_context(scope), details=_FLAGS[asked[0]])

    async def answer(self, headers: Mapping[bytes, bytes], context: Context, receive: Receive, send: Send) -> None:
        """Answer a body of either form."""
        if JSON.match(headers.get(b"content-type", b"")):
            await super().answer(headers, context, receive, send)
        else:
            await _Stream(context, self.limits, receive, send).run()


@dataclass(slots=True)
class _Line:
    """A line that is read and not yet answered."""

    id: str | None
    result: asyncio.Task[Result]
    responses: int
    size: int


class LineSplitter:
    """Splits a body into lines as it arrives, and holds at most one line of it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._too_long = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        r"""Yield the lines that end in a chunk, without their ends, and None for one that is too long.

        Example:
            >>> splitter = LineSplitter(max_bytes=3)
            >>> list(splitter.feed(b"a\nlong")), list(splitter.feed(b"er\nb")), splitter.end()
            ([b'a'], [None], b'b')
        """
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._add(end)
            yield self.end()
        self._add(rest)

    def end(self) -> bytes | None:
        """Return what is held: at the end of a body, its last line."""
        line = None if self._too_long else bytes(self._line)
        self._line.clear()
        self._too_long = False
        return line

    def _add(self, piece: bytes) -> None:
        self._too_long = self._too_long or len(self._line) + len(piece) > self._max_bytes
        if self._too_long:
            self._line.clear()
        else:
            self._line += piece


class _Stream:
    """One stream: tasks receive its parts, and read lines and start their work, while `run` sends what is next."""

    def __init__(self, context: Context, limits: Limits, receive: Receive, send: Send) -> None:
        self._context = context
        self._limits = limits
        self._receive = receive
        self._send = send
        self._lines: deque[_Line] = deque()
        self._responses = self._bytes = 0  # of these lines
        self._chunks: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue(maxsize=1)  # and whether it is the last
        self._changed = asyncio.Event()  # lines were read or answered, or the stream ends
        self._received_all = self._read_all = False  # the body has arrived; its lines are read
        self._failure: Exception | None = None  # of the reader: it is raised once the lines before it are answered
        self._discards = False  # what is still sent is dropped, so that its client comes to read why
        self._full = False  # the reader waits for answers
        self._progress_at = time.monotonic()
        self._started = False
        self._gone = False

    async def run(self) -> None:
        """Answer every line. A failure before the first answer is raised, a later one is the last line."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - an ASGI application runs in a task
        loop = asyncio.get_running_loop()
        readers = [loop.create_task(self._receive_chunks(task)), loop.create_task(self._read_lines())]
        try:
            await self._answer_all()
        except asyncio.CancelledError:
            withdraw_cancellation()
            if self._gone:
                raise ClientGoneError from None
            await self._fail(stopping())
        except ClientGoneError:
            raise
        except ApiError as error:
            await self._fail(error)
        except Exception as error:  # noqa: BLE001 - the answer has begun, so nobody else can say it
            log.error("request %s failed: %s", self._context.request_id, describe(error))
            await self._fail(ApiError(500, Problem.INTERNAL, f"the server failed: {type(error).__name__}"))
        finally:
            for reader in readers:
                reader.cancel()
            self._cancel_works()

    async def _answer_all(self) -> None:
        while await self._has_line():
            answered: list[bytes] = []
            size = 0
            await asyncio.wait([self._lines[0].result])
            for line in self._lines:
                if not line.result.done() or size > SENT_AT_ONCE_BYTES:
                    break
                if line.result.exception() is not None and answered:
                    break  # it is raised when it is next
                shown = show_group(line.id, line.result.result(), details=self._context.details)
                answered.append(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE))
                size += len(answered[-1])
            await self._write(b"".join(answered))
            for _ in answered:
                line = self._lines.popleft()
                self._responses -= line.responses
                self._bytes -= line.size
            self._note_progress()
        await self._write(b"", more=False)

    async def _has_line(self) -> bool:
        """Wait for the next line; False at the end of the body."""
        while not self._lines:
            if self._failure is not None:
                raise self._failure
            if self._read_all:
                return False
            await self._wait()
        return True

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        """Send a part of the answer. A client that sends on and reads nothing would wait for us as we for it."""
        if not self._started:
            self._started = True
            headers = [(b"content-type", NDJSON.encode())]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            if self._context.is_lost():  # a hang-up behind what is not read yet shows only where answers are sent
                raise ClientGoneError
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    await self._send({"type": "http.response.body", "body": data, "more_body": more})
            except TimeoutError:  # a part that had to wait is not sent
                if self._full and not self._discards:
                    raise self._unread() from None
            else:
                return

    def _unread(self) -> ApiError:
        message = (
            f"for {self._limits.body_seconds:g} s no answers were read and further groups were sent: "
            "read while you send, or send fewer groups in a request"
        )
        return ApiError(408, Problem.SLOW_BODY, message)

    async def _fail(self, error: ApiError) -> None:
        """Say why there are no further results."""
        if not self._started:
            error.close = error.close or not self._received_all
            raise error
        self._cancel_works()
        self._discards = True
        self._changed.set()
        with suppress(asyncio.CancelledError):  # the client is gone, or the server stops
            await self._write(error.body(self._context.request_id) + b"\n")
            await self._write(b"", more=False)

    async def _receive_chunks(self, owner: asyncio.Task[object]) -> None:
        """Receive the body a little ahead of its lines, so that a hang-up is noticed while these wait for room."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                owner.cancel()
                return
            self._received_all = not message.get("more_body", False)
            await self._chunks.put((message.get("body", b""), self._received_all))

    async def _read_lines(self) -> None:
        """Start the work of each line; afterwards drop what is still sent."""
        splitter = LineSplitter(self._limits.max_body_bytes)
        number = 0
        ended = False
        try:
            while not ended:
                chunk, ended = await self._read_chunk()
                for line in splitter.feed(chunk):
                    number += 1
                    await self._start(line, number)
            await self._start(splitter.end(), number + 1)
            self._read_all = True
        except Exception as error:  # noqa: BLE001 - `run` waits for it
            self._failure = error
        self._changed.set()
        while True:
            await self._chunks.get()

    async def _read_chunk(self) -> tuple[bytes, bool]:
        """Read a part of the body; an `ApiError` (408) when its client has nothing to wait for and sends no line."""
        seconds = self._limits.body_seconds
        while True:
            try:
                async with asyncio.timeout(self._progress_at + seconds - time.monotonic()):
                    return await self._chunks.get()
            except TimeoutError:
                if not self._lines and time.monotonic() - self._progress_at >= seconds:
                    message = f"no further line arrived within {seconds:g} s"
                    raise ApiError(408, Problem.SLOW_BODY, message, close=True) from None
                if self._lines:
                    self._note_progress()

    async def _start(self, text: bytes | None, number: int) -> None:
        """Start the work of a line, as soon as there is room for it."""
        if text is not None:
            text = text.removeprefix(BOM_UTF8)  # of the file that is sent, or of several in a row
            if not text.strip():
                return
        group_id, row = _read_line(text, number, self._limits.max_body_bytes)
        responses = len(row.responses) if isinstance(row, Group) else 1
        size = len(text or b"")
        limit = min(self._limits.max_pending // 2, RESPONSES_AT_ONCE)  # which leaves room beside a single stream
        while self._lines and not self._discards:
            self._full = self._responses + responses > limit or self._bytes + size > self._limits.max_body_bytes
            if not self._full:
                break
            await self._wait()
        self._full = False
        if self._discards:
            return
        work = asyncio.get_running_loop().create_task(self._context.scorer.score_in_turn(row))
        self._lines.append(_Line(group_id, work, responses, size))
        self._responses += responses
        self._bytes += size
        self._note_progress()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _note_progress(self) -> None:
        self._progress_at = time.monotonic()
        self._changed.set()

    def _cancel_works(self) -> None:
        for line in self._lines:
            line.result.cancel()
            line.result.add_done_callback(_forget)


def _forget(work: asyncio.Task[Result]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not work.cancelled():
        work.exception()


def _read_line(text: bytes | None, number: int, max_bytes: int) -> tuple[str | None, Row]:
    """Return a line's id and its row."""
    if text is None:
        return None, RowError(Problem.TOO_LARGE, f"line {number} is larger than {max_bytes:,} bytes")
    try:
        value = from_json(text)
    except ValueError as error:
        mended = mend_surrogates(text)
        if mended != text:
            return _read_line(mended, number, max_bytes)
        message = str(error).replace(" at line 1 column ", " at column ")
        return None, RowError(Problem.BAD_JSON, f"line {number} is no JSON: {message}")
    return read_id(value), read_group(value)
