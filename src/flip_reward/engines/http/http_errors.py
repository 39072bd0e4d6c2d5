"""From what a server answers instead of a completion to a typed error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    EngineError,
    EngineServerError,
    MalformedCompletionError,
    RequestRefusedError,
)

MAX_MESSAGE_CHARACTERS = 300
_SHORTEST_SECRET = 8  # servers without keys are often given "none" or "EMPTY", which are words of messages too

_CONTEXT_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size"  # codes of OpenAI and llama.cpp
    r"|(?:maximum|max|model'?s) (?:context|model) length"  # OpenAI, vLLM, SGLang, DeepSeek
    r"|(?:exceed\w*|longer than|larger than|greater than)[\w\s'`]{0,40} context"  # llama.cpp, SGLang, Ollama
    r"|context (?:size|length|window|limit)[\w\s]{0,20} exceed"  # llama.cpp
    r"|(?:input|prompt) is too long|maximum (?:allowed|input|prompt) length"  # SGLang, Anthropic, xAI, TensorRT-LLM
    r"|max_new_tokens` must be <=|`inputs` must have less than"  # TGI
    r"|exceeds the maximum number of tokens|(?:reduce|shorten) the length of the (?:messages|input)"  # Gemini, Groq
    r"|max_tokens must be at least 1, got -",  # vLLM, when the prompt alone fills the context
    re.IGNORECASE,
)
_CONTEXT_STATUSES = frozenset({400, 413, 422, 500})


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a server said went wrong.

    Attributes:
        message: In its words, in one line; empty when it said nothing that can be read.
        codes: The machine-readable codes and types, joined by blanks.
        status: The HTTP status inside the body, where one is.
    """

    message: str
    codes: str = ""
    status: int | None = None


def read_error(
    status: int, headers: Mapping[str, str], body: bytes, *, address: str, secrets: Sequence[str] = ()
) -> EngineError:
    """Name the error that an answer without a completion stands for.

    Args:
        status: The HTTP status.
        headers: The answer's headers.
        body: The answer's body.
        address: The server, as the message names it.
        secrets: Keys and passwords, which are cut out of the message should the server repeat them.

    Example:
        >>> read_error(429, {"Retry-After": "2"}, b'{"error": {"message": "slow down"}}', address="http://host/v1")
        EngineBusyError('http://host/v1 answered 429: slow down')
    """
    complaint = _read_complaint(body, secrets)
    if status < 300:
        if complaint.status is None:
            return MalformedCompletionError(_say(f"{address} answered without a completion", complaint.message))
        status = complaint.status  # some gateways report the failure of the server behind them with status 200
    message = _say(f"{address} answered {status}", complaint.message)
    retry_after = read_retry_after(headers.get("Retry-After"))
    if status == 413 or (
        status in _CONTEXT_STATUSES and _CONTEXT_TOO_LONG.search(f"{complaint.codes} {complaint.message}")
    ):
        return ContextTooLongError(message)
    if status in (425, 429) and "insufficient_quota" not in complaint.codes:
        return EngineBusyError(message, retry_after_seconds=retry_after)
    if status in (408, 409) or status >= 500:
        return EngineServerError(message, retry_after_seconds=retry_after)
    hint = f"it redirects to {headers['Location']}" if 300 <= status < 400 and "Location" in headers else None
    return RequestRefusedError(message, status=status, hint=hint)


def read_retry_after(value: str | None) -> float | None:
    """Read a Retry-After header, which holds seconds or a date (RFC 9110, section 10.2.3), as seconds from now.

    Example:
        >>> read_retry_after("1.5"), read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), read_retry_after("soon")
        (1.5, 0.0, None)
    """
    if value is None:
        return None
    if re.fullmatch(r"\d+(?:\.\d+)?", value.strip()):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)


def _say(start: str, message: str) -> str:
    return f"{start}: {message}" if message else start


def _read_complaint(body: bytes, secrets: Sequence[str]) -> Complaint:
    try:
        answer = orjson.loads(body)
    except ValueError:
        return Complaint(_read_text(body, secrets))
    if not isinstance(answer, dict):
        return Complaint("")
    error = answer.get("error") or answer.get("detail") or answer
    if not isinstance(error, dict):
        return Complaint(_trim(str(error), secrets), str(answer.get("error_type", "")))
    message, code = error.get("message"), error.get("code")
    return Complaint(
        _trim(message, secrets) if isinstance(message, str) else "",
        f"{code} {error.get('type')}",
        code if isinstance(code, int) and 400 <= code < 600 else None,
    )


def _read_text(body: bytes, secrets: Sequence[str]) -> str:
    text = body[: 8 * MAX_MESSAGE_CHARACTERS].decode(errors="replace").strip()
    if re.match(r"<(?:!doctype|html|\?xml)", text, re.IGNORECASE):
        return "an HTML page"
    return _trim(text, secrets)


def _trim(message: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            message = message.replace(secret, "***")
    message = " ".join(message[: 8 * MAX_MESSAGE_CHARACTERS].split())
    return message if len(message) <= MAX_MESSAGE_CHARACTERS else message[: MAX_MESSAGE_CHARACTERS - 3] + "..."
