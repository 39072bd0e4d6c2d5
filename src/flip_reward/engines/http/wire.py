"""The OpenAI chat completions format: requests as bodies, and bodies as completions or errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import starmap
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

MAX_TOKEN_COUNT = 2**53
"""What JSON readers and Parquet columns hold exactly."""

MAX_MESSAGE_CHARACTERS = 300
_MIN_SECRET_CHARACTERS = 8  # servers without keys are often given "none" or "EMPTY", which are words of messages too


def encode_request(model: str, request: Request, fixed_fields: Mapping[str, object]) -> bytes:
    """Write the body of a request. The fixed fields win over the request's own."""
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
    """Read a completion from a response's body; None when it is not one.

    The reply is the visible content alone, without what reasoning models send beside it, and None when the server
    sent none. Replies beyond the `n` that were asked for are left out.
    """
    try:
        answer = orjson.loads(body)
        first, *others = map(_read_choice, answer["choices"][:n])
        return Completion(*first, read_usage(answer.get("usage")), others=tuple(starmap(Completion, others)))
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def _read_choice(choice: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return a choice's text and finish reason."""
    content, finish_reason = choice["message"].get("content"), choice.get("finish_reason")
    if content is not None and not isinstance(content, str):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    return content, finish_reason if isinstance(finish_reason, str) else None


def read_usage(usage: object) -> Usage:
    """Read the tokens that a server says it spent; missing counts are 0.

    Example:
        >>> read_usage({"prompt_tokens": 5, "completion_tokens": 2})
        Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=0)
    """
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), cached)
    return Usage(*[min(max(count, 0), MAX_TOKEN_COUNT) if isinstance(count, int) else 0 for count in counts])


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


def read_error(
    status: int, headers: Mapping[str, str], body: bytes, *, address: str, secrets: Sequence[str] = ()
) -> EngineError:
    """Return the error that a response without a completion stands for, without secrets that the server repeats."""
    said = _read_error_body(body, secrets)
    quoted = f": {said.message}" if said.message else ""
    if status < 300:
        if said.status is None:
            return MalformedCompletionError(f"{address} answered without a completion{quoted}")
        status = said.status  # some gateways report the failure of the server behind them with status 200
    message = f"{address} answered {status}{quoted}"
    if status == 413 or (status in _CONTEXT_STATUSES and _CONTEXT_TOO_LONG.search(f"{said.codes} {said.message}")):
        return ContextTooLongError(message)
    retry_after = read_retry_after(headers.get("Retry-After"))
    if status in (425, 429) and "insufficient_quota" not in said.codes:
        return EngineBusyError(message, retry_after_seconds=retry_after)
    if status in (408, 409) or status >= 500:
        return EngineServerError(message, retry_after_seconds=retry_after)
    hint = f"it redirects to {headers['Location']}" if 300 <= status < 400 and "Location" in headers else None
    return RequestRefusedError(message, status=status, hint=hint)


def read_retry_after(value: str | None) -> float | None:
    """Read a Retry-After header, which holds seconds or a date (RFC 9110, section 10.2.3), as seconds from now."""
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


@dataclass(frozen=True, slots=True)
class _ErrorBody:
    """What a server says went wrong, in its words and in its machine-readable codes and types, joined by blanks."""

    message: str
    codes: str = ""
    status: int | None = None


def _read_error_body(body: bytes, secrets: Sequence[str]) -> _ErrorBody:
    try:
        answer = orjson.loads(body)
    except ValueError:
        text = body[: 8 * MAX_MESSAGE_CHARACTERS].decode(errors="replace").strip()
        is_html = re.match(r"<(?:!doctype|html|\?xml)", text, re.IGNORECASE)
        return _ErrorBody("an HTML page" if is_html else _shorten(text, secrets))
    if not isinstance(answer, dict):
        return _ErrorBody("")
    error = answer.get("error") or answer.get("detail") or answer
    if not isinstance(error, dict):
        return _ErrorBody(_shorten(str(error), secrets), str(answer.get("error_type", "")))
    message, code = error.get("message"), error.get("code")
    return _ErrorBody(
        _shorten(message, secrets) if isinstance(message, str) else "",
        f"{code} {error.get('type')}",
        code if isinstance(code, int) and 400 <= code < 600 else None,
    )


def _shorten(message: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if len(secret) >= _MIN_SECRET_CHARACTERS:
            message = message.replace(secret, "***")
    message = " ".join(message[: 8 * MAX_MESSAGE_CHARACTERS].split())
    return message if len(message) <= MAX_MESSAGE_CHARACTERS else message[: MAX_MESSAGE_CHARACTERS - 3] + "..."
