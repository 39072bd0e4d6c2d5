"""What goes wrong with a request, as every route tells it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import orjson


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


CLIENT_GONE = 499
"""What the metrics and the access log call a request whose client hung up."""


class ApiError(Exception):
    """A request cannot be answered as it was meant.

    Args:
        status: The HTTP status.
        problem: The kind of failure.
        message: What happened, in one line. It quotes no text of the request.
        retry_after_seconds: When to come again, where that may help.
        close: The connection cannot be used again.
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
    """Return what a client is told whose body is too large. The rest of it is not read."""
    return ApiError(413, Problem.TOO_LARGE, f"the body is larger than {max_body_bytes:,} bytes", close=True)


class ClientGoneError(Exception):
    """The client hung up, so there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class RowError:
    """One row of a request cannot be scored; the others can.

    Attributes:
        problem: The kind of failure.
        message: What happened, in one line.
    """

    problem: Problem
    message: str
