"""The OpenAI chat completions format: a request as the body that is sent, and an answer's body as a completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from flip_reward.core.characters import replace_lone_surrogates
from flip_reward.core.score import Usage
from flip_reward.engines.base import Completion, Request

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
    if request.samples > 1:
        fields["n"] = request.samples
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


def decode_completion(body: bytes, *, samples: int = 1) -> Completion | None:
    """Read a completion from an answer's body; None when it is not one.

    The reply is the visible content alone, without what reasoning models send beside it. It is None when the server
    sent none.

    Args:
        body: The answer's body.
        samples: How many replies were asked for. The answer may hold fewer; if it holds more, they are left out.

    Example:
        >>> decode_completion(b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}').text
        'Hi'
        >>> decode_completion(b"<html>Bad gateway</html>") is None
        True
    """
    try:
        answer = orjson.loads(body)
        first, *others = [_read_choice(choice) for choice in answer["choices"][:samples]]
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
