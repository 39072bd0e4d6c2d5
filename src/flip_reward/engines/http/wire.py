"""The OpenAI chat completions format: a request as the body that is sent, and an answer's body as a completion.

From what a server answers instead of a completion to a typed error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from flip_reward.core.response import replace_lone_surrogates
from flip_reward.core.score import Usage
from flip_reward.engines.base import Completion, Request
from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    EngineError,
    EngineServerError,
    MalformedCompletionError,
    RequestRefusedError,
)

_MAX_COUNT = 2**53  # what JSON readers and Parquet columns hold exactly


def encode_request(model: str, request: Request, fixed_fields: Mapping[str, object]) -> bytes:
    """Write the body of a request.

    Args:
        model: The model's name at the server.
        request: The prompt, the sampling, the schema and the number of samples.
        fixed_fields: Fields of every body; they win over the others.
    """
    sampling = request.sampling
    fields: dict[str, object] = {
        "model": model,
        "messages": request.messages,
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.top_p is not None:
        fields["top_p"] = sampling.top_p
    if sampling.seed is not None:
        fields["seed"] = sampling.seed
    if request.n > 1:
        fields["n"] = request.n
    if request.json_schema is not None:
        schema = {
            "name": request.json_schema.name,
            "schema": orjson.Fragment(request.json_schema.text),
            "strict": True,
        }
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    fields.update(fixed_fields)
    try:
        return orjson.dumps(fields)
    except TypeError:
        # A message holds half of a surrogate pair, which JSON data may but UTF-8 cannot.
        fields["messages"] = [
            {"role": message.role, "content": replace_lone_surrogates(message.content)}
            for message in request.messages
        ]
        return orjson.dumps(fields)


def decode_completion(body: bytes, *, n: int = 1) -> Completion | None:
    """Read a completion from an answer's body; None when it is not one.

    The reply is the visible content alone, without what reasoning models send beside it. It is None when the server
    sent none.

    Args:
        body: The answer's body.
        n: How many replies were asked for. The answer may hold fewer; if it holds more, they are left out.

    Example:
        >>> decode_completion(b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}').text
        'Hi'
        >>> decode_completion(b"<html>Bad gateway</html>") is None
        True
    """
    try:
        answer = orjson.loads(body)
        first, *others = [_read_choice(choice) for choice in answer["choices"][:n]]
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return replace(first, usage=read_usage(answer.get("usage")), others=tuple(others))


def read_usage(usage: object) -> Usage:
    """Read what an answer says of the tokens spent; what it does not say is 0.

    Example:
        >>> read_usage({"prompt_tokens": 5, "completion_tokens": 2})
        Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=0)
    """
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _read_choice(choice: dict[str, Any]) -> Completion:
    content = choice["message"].get("content")
    text = content if content is None or isinstance(content, str) else _join_parts(content)
    finish_reason = choice.get("finish_reason")
    return Completion(text, finish_reason if isinstance(finish_reason, str) else None)


def _join_parts(parts: list[dict[str, str]]) -> str:
    return "".join(part["text"] for part in parts if part["type"] == "text")


def _count(value: object) -> int:
    return min(max(value, 0), _MAX_COUNT) if isinstance(value, int) else 0


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
