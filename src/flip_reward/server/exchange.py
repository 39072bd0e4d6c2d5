"""One request in one contract: read it, score it, answer it."""

from __future__ import annotations

import asyncio
import re
from abc import abstractmethod
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from flip_reward.core.chat.template import ChatReader
from flip_reward.core.json_body import mend_surrogates
from flip_reward.server.problems import ApiError, ClientGoneError, Problem, body_too_large, explain
from flip_reward.server.scorer import Result, Row, Scorer
from flip_reward.server.settings import Limits, ServerSettings

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

WATCH_AFTER_SECONDS = 0.02
"""How long a request is worked on before the server watches for its client to hang up; most are done by then."""

_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """Settings that questions need for their rows and answers."""

    scorer: Scorer
    settings: ServerSettings
    request_id: str
    reader: ChatReader = ChatReader()
    """Takes apart what trainers send as one text."""


class Question(BaseModel):
    """The body of a request: it knows its rows, and what its client wants back."""

    @abstractmethod
    def to_rows(self, context: Context) -> Sequence[Row]:
        """Make the rows to be scored. A mistake in one row is a `RowError`, in the whole request an `ApiError`."""

    @abstractmethod
    def to_answer(self, results: Sequence[Result], context: Context) -> object:
        """Make what goes back as JSON, or raise an `ApiError`."""


@dataclass(frozen=True, slots=True)
class Contract:
    """The body that one kind of client sends, and the answer it wants."""

    summary: str
    """One line for the OpenAPI document."""
    questions: TypeAdapter[Any]
    """Reads a body."""
    answers: TypeAdapter[Any]
    """Describes the answer for the document."""
    shapes: tuple[type[BaseModel], ...] = ()
    """The models that a body may have, where there are several."""
    described: TypeAdapter[Any] | None = None
    """Describes a body for the document, where `questions` reads its rows one by one."""


class Exchange:
    """The endpoint of a route that scores, as plain ASGI. Failures are raised, and answered by the gate."""

    def __init__(self, contract: Contract, scorer: Scorer, settings: ServerSettings, reader: ChatReader) -> None:
        self._contract = contract
        self._scorer = scorer
        self._settings = settings
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. When its client hangs up, its work is cancelled."""
        limits = self._settings.limits
        headers = dict(scope["headers"])
        if not _JSON.match(headers.get(b"content-type", b"")):
            message = "the body has to be JSON, with Content-Type: application/json"
            raise ApiError(415, Problem.UNSUPPORTED_MEDIA_TYPE, message, close=True)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limits.max_body_bytes:
            raise body_too_large(limits.max_body_bytes)
        if self._scorer.admission.full:
            raise self._scorer.admission.refusal()
        context = Context(self._scorer, self._settings, scope["state"]["request_id"], self._reader)
        try:
            question = read_question(await read_body(receive, limits), self._contract)
            results = await _while_wanted(receive, self._scorer.score(question.to_rows(context)))
        except asyncio.CancelledError:
            _withdraw_cancellation()  # the time to drain is over, and the client is told so
            raise ApiError(503, Problem.STOPPING, "the server is stopping", close=True) from None
        body = orjson.dumps(question.to_answer(results, context))
        answer_headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": answer_headers})
        await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """Read a body within the limits of size (413) and time (408)."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                chunks.append(chunk)
                size += len(chunk)
                if size > limits.max_body_bytes:
                    raise body_too_large(limits.max_body_bytes)
                if not message.get("more_body", False):
                    return chunk if len(chunks) == 1 else b"".join(chunks)
    except TimeoutError:
        problem = f"the body did not arrive within {limits.body_seconds:g} s"
        raise ApiError(408, Problem.SLOW_BODY, problem, close=True) from None


def read_question(body: bytes, contract: Contract) -> Question:
    """Read a body that has to be JSON (400) and of the shape that the route wants (422)."""
    try:
        question: Question = contract.questions.validate_json(body)
    except ValidationError as error:
        mended = mend_surrogates(body)  # which a reply that was cut inside of an emoji leads to
        if mended != body:
            return read_question(mended, contract)
        [detail, *_] = error.errors(include_url=False, include_input=False, include_context=False)
        if detail["type"] == "json_invalid":
            raise ApiError(400, Problem.BAD_JSON, detail["msg"]) from None
        raise ApiError(422, Problem.BAD_REQUEST, explain(error, contract.shapes)) from None
    return question


async def _while_wanted(receive: Receive, work: Coroutine[object, object, T]) -> T:
    """Await work; when the client hangs up, cancel it."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - an ASGI application runs in a task
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def start() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    starting = loop.call_later(WATCH_AFTER_SECONDS, start)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        _withdraw_cancellation()
        raise ClientGoneError from None
    finally:
        starting.cancel()
        if watcher is not None:
            watcher.cancel()


def _withdraw_cancellation() -> None:
    """Let the request go on to its answer: only its work was cancelled."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
