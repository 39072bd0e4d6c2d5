"""One request in one contract: read it, score it, answer it."""

from __future__ import annotations

import asyncio
import re
from abc import abstractmethod
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import orjson
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from flip_reward.core.chat.template import ChatReader
from flip_reward.core.json_body import mend_surrogates
from flip_reward.server.problems import ApiError, ClientGoneError, Problem, body_too_large, explain, stopping
from flip_reward.server.scorer import Result, Row, Scorer
from flip_reward.server.settings import Limits, ServerSettings

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

WATCH_AFTER_SECONDS = 0.2
"""How long a request is worked on before the server watches for its client to hang up. Where the server is what is
slow, most are done by then; where the engine is, a watcher costs little beside it."""

JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """Settings that questions need for their rows and answers."""

    scorer: Scorer
    settings: ServerSettings
    request_id: str
    reader: ChatReader = ChatReader()
    """Takes apart what trainers send as one text."""
    details: bool = False
    """The address asks for everything that is known of a score."""
    is_lost: Callable[[], bool] = bool
    """Whether the connection is lost, where the server tells."""


class Body(BaseModel):
    """A part of what is sent. Its schema says all names that a field may have; the first that is there counts."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe the names."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        for field in cls.model_fields.values():
            if isinstance(field.validation_alias, AliasChoices):
                _describe_names(schema, [str(name) for name in field.validation_alias.choices])
        return reference


def _describe_names(schema: JsonSchemaValue, names: Sequence[str]) -> None:
    first, *others = names
    properties = schema["properties"]
    schema["required"] = [name for name in schema["required"] if name != first]
    choices: list[dict[str, object]] = [{"required": [first]}]
    for number, name in enumerate(others):
        choice: dict[str, object] = {"required": [name], "properties": {name: properties[first]}}
        if number:
            choice["not"] = {"anyOf": [{"required": [earlier]} for earlier in others[:number]]}
        choices.append(choice)
    properties |= {name: {"description": f"The same as `{first}`."} for name in others}
    schema.setdefault("allOf", []).append({"anyOf": choices})


def _read_whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber: TypeAlias = Annotated[int, BeforeValidator(_read_whole)]
"""An integer as JSON means it: 3.0 is one, and "3" is none."""
Count: TypeAlias = Annotated[int, Field(ge=0), BeforeValidator(_read_whole)]
"""The same, and not below 0."""


class Question(Body):
    """The body of a request: it knows its rows, and what its client wants back."""

    model_config = ConfigDict(strict=True)  # "5" is no number in the document, so it is none here

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

    media_types = "JSON, with Content-Type: application/json"

    def __init__(self, contract: Contract, scorer: Scorer, settings: ServerSettings, reader: ChatReader) -> None:
        self.scorer = scorer
        self.limits = settings.limits
        self._contract = contract
        self._settings = settings
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. When its client hangs up, its work is cancelled."""
        headers = dict(scope["headers"])
        self.check(headers)
        await self.answer(headers, self.make_context(scope), receive, send)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse, before its body is read, what cannot be read (415) and what there is no room for now (429)."""
        if not self.reads(headers.get(b"content-type", b"")):
            message = f"the body has to be {self.media_types}"
            raise ApiError(415, Problem.UNSUPPORTED_MEDIA_TYPE, message, close=True)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            message = "the body has to be sent as it is, without Content-Encoding"
            raise ApiError(415, Problem.UNSUPPORTED_MEDIA_TYPE, message, close=True)
        if b"upgrade" in headers and b"upgrade" in headers.get(b"connection", b"").lower():  # its body is not read
            message = "the connection stays at HTTP/1.1: ask without Upgrade (in Java, HttpClient.Version.HTTP_1_1)"
            raise ApiError(400, Problem.BAD_REQUEST, message, close=True)
        if self.scorer.admission.full:
            raise self.scorer.admission.refusal()

    def reads(self, content_type: bytes) -> bool:
        """Whether a body of this type can be read."""
        return JSON.match(content_type) is not None

    def make_context(self, scope: Scope) -> Context:
        """Collect what a question needs."""
        state = scope["state"]
        is_lost = state.get("is_lost", bool)
        return Context(self.scorer, self._settings, state["request_id"], self._reader, is_lost=is_lost)

    async def answer(self, headers: Mapping[bytes, bytes], context: Context, receive: Receive, send: Send) -> None:
        """Answer a body that is one JSON value."""
        limits = self.limits
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limits.max_body_bytes:
            raise body_too_large(limits.max_body_bytes)
        try:
            question = read_question(await read_body(receive, limits), self._contract)
            results = await _while_wanted(receive, self.scorer.score(question.to_rows(context)))
        except asyncio.CancelledError:
            withdraw_cancellation()  # the time to drain is over, and the client is told so
            raise stopping() from None
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
        question: Question = contract.questions.validate_json(body.removeprefix(BOM_UTF8))
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
        withdraw_cancellation()
        raise ClientGoneError from None
    finally:
        starting.cancel()
        if watcher is not None:
            watcher.cancel()


def withdraw_cancellation() -> None:
    """Let the request go on to its answer: only its work was cancelled."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
