"""One request in one contract: read it, score it, answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Receive

from flip_reward.server.problems import CLIENT_GONE, ApiError, ClientGoneError, Problem, body_too_large, explain
from flip_reward.server.scorer import Result, Row, Scorer
from flip_reward.server.settings import Limits, ServerSettings

WATCH_AFTER_SECONDS = 0.02
"""How long a request is worked on before anybody looks whether its client is still there; most are done by then."""

Question = TypeVar("Question")
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Context:
    """What an answer may need besides the question.

    Attributes:
        scorer: The scoring core.
        settings: What the user chose.
        request_id: Names the request.
    """

    scorer: Scorer
    settings: ServerSettings
    request_id: str

    @property
    def model(self) -> str:
        """The name of the model behind the reward."""
        return self.scorer.reward.engine.model


@dataclass(frozen=True, slots=True)
class Contract(Generic[Question]):
    """What one kind of client sends and wants back.

    Attributes:
        questions: Reads and checks a body.
        to_rows: Makes rows of the question. What is wrong with one row is a `RowError`.
        to_answer: Makes what goes back as JSON, or raises an `ApiError`.
        shapes: The shapes that a body may have, where there are several.
    """

    questions: TypeAdapter[Question]
    to_rows: Callable[[Question, Context], Sequence[Row]]
    to_answer: Callable[[Question, Sequence[Result], Context], object]
    shapes: tuple[type[BaseModel], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back.

    Attributes:
        body: JSON.
        status: The HTTP status.
        headers: What belongs to a failure.
    """

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


async def exchange(
    receive: Receive, request_id: str, contract: Contract[Question], scorer: Scorer, settings: ServerSettings
) -> Answer:
    """Answer one request. When its client goes away, its work is cancelled."""
    context = Context(scorer, settings, request_id)
    try:
        question = read_question(await read_body(receive, settings.limits), contract)
        results = await _while_wanted(receive, scorer.score(contract.to_rows(question, context)))
        return Answer(orjson.dumps(contract.to_answer(question, results, context)))
    except ApiError as error:
        return Answer(error.body(request_id), error.status, tuple(error.headers.items()))
    except ClientGoneError:
        return Answer(b"", CLIENT_GONE)
    except asyncio.CancelledError:
        _withdraw_cancellation()  # the time to drain is over, and the client is told so
        stopping = ApiError(503, Problem.STOPPING, "the server is stopping", close=True)
        return Answer(stopping.body(request_id), stopping.status, tuple(stopping.headers.items()))


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """Read a body within the limits of size and time.

    Raises:
        ApiError: It is too large or too slow.
        ClientGoneError: The client hung up in the middle of it.
    """
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
        raise ApiError(
            408, Problem.SLOW_BODY, f"the body did not arrive within {limits.body_seconds:g} s", close=True
        ) from None


def read_question(body: bytes, contract: Contract[Question]) -> Question:
    """Read and check a body.

    Raises:
        ApiError: It is not JSON (400), or not of the shape that the route wants (422).
    """
    try:
        return contract.questions.validate_json(body)
    except ValidationError as error:
        [detail, *_] = error.errors(include_url=False, include_input=False, include_context=False)
        if detail["type"] == "json_invalid":
            raise ApiError(400, Problem.BAD_JSON, detail["msg"]) from None
        raise ApiError(422, Problem.BAD_REQUEST, explain(error, contract.shapes)) from None


async def _while_wanted(receive: Receive, work: Coroutine[object, object, Done]) -> Done:
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
    """What was cancelled is the work; the request goes on to its answer."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
