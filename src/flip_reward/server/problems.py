"""What goes wrong with a request, and how every route says it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

RETRY_FAILURE_AFTER_SECONDS = 5.0


class Problem(StrEnum):
    """The kinds of failures, as `error.type` names them."""

    BAD_JSON = "bad_json"
    BAD_REQUEST = "bad_request"
    BAD_ROW = "bad_row"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    WRONG_METHOD = "wrong_method"
    SLOW_BODY = "slow_body"
    QUEUE_FULL = "queue_full"
    UNSCORED = "unscored"
    ENGINE_FAILURE = "engine_failure"
    STOPPING = "stopping"
    INTERNAL = "internal_error"


class ApiError(Exception):
    """The whole request fails. The message is one line that quotes no text of the request.

    `close` says that the connection cannot be used again, for example because the body was not read.
    """

    def __init__(
        self,
        status: int,
        problem: Problem,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds
        self.close = close

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to the failure."""
        headers = {}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(max(math.ceil(self.retry_after_seconds), 1))
        if self.close:
            headers["connection"] = "close"
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers

    def body(self, request_id: str) -> bytes:
        """Return the body: `error` as vLLM's and OpenAI's clients read it, `detail` as Jina's and FastAPI's do."""
        error = {"message": str(self), "type": self.problem.value, "param": None, "code": self.status}
        return orjson.dumps({"error": error, "detail": str(self), "request_id": request_id})


def body_too_large(max_body_bytes: int) -> ApiError:
    """Make the error for a body that is too large. The rest of it is not read."""
    return ApiError(413, Problem.TOO_LARGE, f"the body is larger than {max_body_bytes:,} bytes", close=True)


def engine_failed(message: str) -> ApiError:
    """Make the error for a request that the language model did not answer."""
    return ApiError(503, Problem.ENGINE_FAILURE, message, retry_after_seconds=RETRY_FAILURE_AFTER_SECONDS)


def stopping() -> ApiError:
    """Make the error for a request that the server, asked to stop, has no time left for."""
    return ApiError(503, Problem.STOPPING, "the server is stopping", close=True)


class ClientGoneError(Exception):
    """The client hung up, so there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class RowError:
    """One row of a request cannot be scored; the others can. The message is one line."""

    problem: Problem
    message: str


MOST_SHOWN = 3

_Place: TypeAlias = tuple[str | int, ...]


def explain(error: ValidationError, shapes: Sequence[type[BaseModel]] = ()) -> str:
    """Say what is wrong with a value, in one line that quotes nothing of it, because answers are logged.

    Where a value may have several shapes, pydantic complains about each. This keeps to the shape that was meant, the
    one with most of its fields present, and within a field to the complaint that was read furthest.

    Example:
        >>> from flip_reward.server.contracts.rewards import RewardGroup
        >>> try:
        ...     RewardGroup.model_validate({"prompt": [{"content": "Name a fruit."}], "responses": [7]})
        ... except ValidationError as error:
        ...     print(explain(error))
        prompt.0.role: Field required; responses.0: Input should be a valid string
    """
    details = error.errors(include_url=False, include_input=False, include_context=False)
    if shapes:
        shape = max(shapes, key=lambda shape: len(_fields_present(shape, details)))
        if not _fields_present(shape, details):
            return f"needed is {', or '.join(' and '.join(_required(shape)) for shape in shapes)}"
        details = [detail for detail in details if detail["loc"][0] == shape.__name__]
    found: dict[_Place, list[str]] = {}
    for detail in details:
        found.setdefault(_place(detail), []).append(_message(detail))
    deepest: dict[_Place, int] = {}
    for place in found:
        deepest[place[:1]] = max(deepest.get(place[:1], 0), len(place))
    shown = [_show(place, messages) for place, messages in found.items() if len(place) == deepest[place[:1]]]
    return "; ".join(shown[:MOST_SHOWN])


def _required(shape: type[BaseModel]) -> list[str]:
    return [name for name, field in shape.model_fields.items() if field.is_required()]


def _fields_present(shape: type[BaseModel], details: Sequence[ErrorDetails]) -> set[str]:
    """Return which of a shape's required fields the value has."""
    missing = {detail["loc"][1] for detail in details if _is_missing(detail, shape.__name__)}
    return {name for name in _required(shape) if name not in missing}


def _is_missing(detail: ErrorDetails, shape: str) -> bool:
    return detail["type"] == "missing" and detail["loc"][0] == shape and len(detail["loc"]) == 2


def _place(detail: ErrorDetails) -> _Place:
    """Return where something is wrong, without the types that pydantic tried there, such as "list[ChatMessage]"."""
    return tuple(step for step in detail["loc"] if isinstance(step, int) or _is_field(step))


def _is_field(step: str) -> bool:
    return step.isidentifier() and step.islower() and step not in ("str", "int")


def _message(detail: ErrorDetails) -> str:
    return "Input should be an object" if detail["type"] == "model_type" else detail["msg"]


def _show(place: _Place, messages: Sequence[str]) -> str:
    first, *others = dict.fromkeys(messages)
    message = ", or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    return f"{'.'.join(map(str, place))}: {message}" if place else message
