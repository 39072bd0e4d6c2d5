"""The OpenAI chat completions format: requests as bodies, and bodies as completions or errors."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from email.utils import mktime_tz, parsedate_tz
from typing import Any, cast

import orjson

from flip_reward.core.conversation import Message
from flip_reward.core.json_body import mend_surrogates
from flip_reward.core.replies.ending import Ending
from flip_reward.core.score import Usage
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.http.first_token import read_first_token
from flip_reward.engines.http.stream import read_body
from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    EngineError,
    EngineServerError,
    MalformedCompletionError,
    RequestRefusedError,
)
from flip_reward.redact import show_address

MAX_TOKEN_COUNT = 2**53
"""What JSON readers and Parquet columns hold exactly."""

MAX_MESSAGE_CHARACTERS = 300
_MOST_CHARACTERS_READ = 8 * MAX_MESSAGE_CHARACTERS
_MIN_SECRET_CHARACTERS = 8  # servers without keys are often given "none" or "EMPTY", which are words of messages too


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The status, the headers, whose names are looked up without regard to case, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def encode_request(model: str, request: Request, fixed_fields: Mapping[str, object]) -> bytes:
    """Write the body of a request. The fixed fields win over the request's own."""
    return encode_fields({**make_fields(model, request), **fixed_fields})


def make_fields(model: str, request: Request) -> dict[str, object]:
    """Return the fields of a request's body."""
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
    if request.top_logprobs:
        fields["logprobs"], fields["top_logprobs"] = True, request.top_logprobs
    if request.json_schema is not None:
        schema = {
            "name": request.json_schema.name,
            "schema": orjson.Fragment(request.json_schema.text),
            "strict": True,
        }
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


def encode_fields(fields: Mapping[str, object]) -> bytes:
    """Write the body of a request, without fields that are None."""
    if None in fields.values():
        fields = {name: value for name, value in fields.items() if value is not None}
    try:
        return orjson.dumps(fields)
    except TypeError:
        # A message holds half of a surrogate pair, which JSON data may but UTF-8 cannot.
        return mend_surrogates(json.dumps(fields, default=_to_json).encode())


def _to_json(value: object) -> object:
    return orjson.loads(value.contents) if isinstance(value, orjson.Fragment) else asdict(cast("Message", value))


def decode_completion(body: bytes, *, n: int = 1, top_logprobs: int = 0) -> Completion | None:
    """Read a completion from a response's body; None when it is not one.

    The reply is the visible content alone, without what reasoning models send beside it, and None when the server
    sent none; the completion's `detail` then says why, where the server does. Replies beyond the `n` that were asked
    for are left out. Where `top_logprobs` are asked for, see `read_first_token` for what it raises.
    """
    try:
        answer = read_body(body)
        first, *others = answer["choices"][:n]
        if answer.get("error"):
            return None
        further = tuple([_read_choice(choice, Usage()) for choice in others])
        completion = _read_choice(first, read_usage(answer.get("usage")), further)
        return _add_first_token(completion, first, top_logprobs) if top_logprobs else completion
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def _read_choice(choice: dict[str, Any], usage: Usage, others: tuple[Completion, ...] = ()) -> Completion:
    finish_reason = choice.get("finish_reason")
    if isinstance(finish_reason, dict):
        finish_reason = finish_reason.get("type")
    finish_reason = finish_reason if isinstance(finish_reason, str) else None
    message = choice.get("message")
    if not message:
        # Gemini sends no message where a filter or the limit left nothing of it.
        may_lack_one = Ending.of(finish_reason) in (Ending.FILTERED, Ending.CUT)
        message = {"content": choice.get("text") if may_lack_one else choice["text"]}
    text, refusal = message.get("content"), message.get("refusal")
    if choice.get("error") or (finish_reason != "stop" and find_error({"choices": [choice]})):
        raise ValueError("it failed")
    if text is not None and not isinstance(text, str):
        refusal = refusal or next((part["refusal"] for part in text if part["type"] == "refusal"), None)
        text = "".join(part["text"] for part in text if part["type"] in _TEXT_PARTS)
    if isinstance(refusal, str) and refusal.strip():
        said = f"the model refused: {shorten(refusal)}"
        return Completion(text, "refusal", usage, others=others, detail=said)
    detail = None if text and not text.isspace() else _explain_nothing(message, finish_reason)
    return Completion(text, finish_reason, usage, others=others, detail=detail)


def _add_first_token(completion: Completion, choice: dict[str, Any], count: int) -> Completion:
    if Ending.of(completion.finish_reason) is Ending.FILTERED:
        return completion
    if _has_reasoned(choice.get("message") or {}):
        return completion  # its first token is none of the answer
    return replace(completion, top_logprobs=read_first_token(choice, count, has_text=bool(completion.text)))


def decode_refused_cut(said: ErrorBody) -> Completion | None:
    """Read the refusal by which OpenAI's reasoning models say that a reply was cut before it began; else None."""
    if "model output limit was reached" not in said.text:
        return None
    return Completion(None, "length", detail=_explain_nothing({"reasoning": True}, "length"))


def _explain_nothing(message: Mapping[str, object], finish_reason: str | None) -> str | None:
    """Say why a reply is blank, if the server shows it."""
    reasoned = _has_reasoned(message)
    if Ending.of(finish_reason) is Ending.CUT:
        when = "while the model was still reasoning" if reasoned else "before the model wrote an answer"
        return f"the reply was cut {when}; allow more with --max-tokens, or switch reasoning off with --no-thinking"
    if reasoned:
        return (
            "the model put everything into its reasoning and left the reply empty; switch reasoning off with "
            "--no-thinking, or give the server the reasoning parser that fits the model"
        )
    return "the model called a tool in place of a reply" if message.get("tool_calls") else None


def _has_reasoned(message: Mapping[str, object]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return any(message.get(name) for name in _REASONING) or any(part["type"] not in _TEXT_PARTS for part in parts)


_TEXT_PARTS = ("text", "output_text")
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")


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
    r"|(?:exceed\w{0,4}|longer than|larger than|greater than)[\w\s'`]{0,40} context"  # llama.cpp, SGLang, Ollama
    r"|context (?:size|length|window|limit)[\w\s]{0,20} exceed"  # llama.cpp
    r"|(?:input|prompt) is too long|maximum (?:allowed|input|prompt) length"  # SGLang, Anthropic, xAI, TensorRT-LLM
    r"|max_new_tokens` must be <=|`inputs` must have less than"  # TGI
    r"|exceeds the maximum number of tokens|(?:reduce|shorten) the length of the (?:messages|input)"  # Gemini, Groq
    r"|max_tokens must be at least 1, got -",  # vLLM, when the prompt alone fills the context
    re.IGNORECASE,
)
_CONTEXT_STATUSES = frozenset({400, 413, 422, 500})

_SPENT = re.compile(
    r"insufficient[_ ](?:quota|balance|credit|fund)|exceeded_current_quota|billing_hard_limit"  # OpenAI, Moonshot
    r"|\b(?:per|a|each)[ -]?day\b|perday|\bdaily\b|\b(?:rpd|tpd)\b"  # OpenAI, Groq, OpenRouter, Gemini, Moonshot
    r"|in arrears",  # Zhipu, Alibaba
    re.IGNORECASE,
)
"""A 429 that waiting does not mend soon: a quota or the limit of a day is used up."""
_QUOTA_BYTES = 8192  # Gemini names the quota in the details behind its message


def read_error(
    status: int, headers: Mapping[str, str], body: bytes, *, address: str, secrets: Sequence[str] = ()
) -> EngineError:
    """Return the error that a response without a completion stands for, without secrets that the server repeats."""
    said = read_error_body(body)
    words = shorten(said.message, secrets)
    quoted = f": {words}" if words else ""
    stated = said.status if status < 300 else status  # gateways report a failure behind them with status 200
    if stated is None and not said.in_reply:
        return MalformedCompletionError(f"{address} answered without a completion{quoted}")
    message = f"{address} {'failed' if stated is None else f'answered {stated}'}{quoted}"
    status = stated or 500
    if status == 413 or (status in _CONTEXT_STATUSES and _CONTEXT_TOO_LONG.search(said.text)):
        return ContextTooLongError(message)
    retry_after = read_retry_after(headers)
    if status == 425 or (status == 429 and not _SPENT.search(body[:_QUOTA_BYTES].decode(errors="replace"))):
        return EngineBusyError(message, retry_after_seconds=retry_after)
    if status in (408, 409) or status >= 500:
        return EngineServerError(message, retry_after_seconds=retry_after)
    hint = f"it redirects to {show_address(headers['Location'])}" if _redirects(status, headers) else None
    return RequestRefusedError(message, status=status, hint=hint, by_server=True)


def _redirects(status: int, headers: Mapping[str, str]) -> bool:
    return 300 <= status < 400 and "Location" in headers


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a server says went wrong, in its words and in its machine-readable codes and types, joined by blanks."""

    message: str
    codes: str = ""
    status: int | None = None
    in_reply: bool = False
    """It stands in the place of a reply, or beside one."""

    @property
    def text(self) -> str:
        """The beginning of everything that is said, for patterns."""
        return f"{self.codes} {self.message}"[:_MOST_CHARACTERS_READ]


def read_error_body(body: bytes) -> ErrorBody:
    """Read what a server says in a response that is no answer."""
    try:
        answer = read_body(body)
    except ValueError:
        text = body[:_MOST_CHARACTERS_READ].decode(errors="replace").strip()
        return ErrorBody("an HTML page" if _HTML.match(text) else text)
    failed = find_error(answer)
    objects = _unwrap(answer if failed is None else failed)
    codes = [str(one[name])[:80] for one in objects for name in _CODES if isinstance(one.get(name), str | int)]
    statuses = [int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)]
    if not statuses and any(code.lower() in _BUSY_CODES for code in codes):
        statuses = [429]
    in_reply = failed is not None and failed is not answer
    return ErrorBody(
        _find_words(objects[0]) if objects else "", " ".join(codes), statuses[0] if statuses else None, in_reply
    )


def find_error(answer: Any) -> object | None:  # noqa: ANN401 - whatever the JSON holds
    """Return what an answer says went wrong, in the place of a reply or beside one; None where it says nothing.

    Example:
        >>> find_error({"choices": [{"text": "Apples,", "finish_reason": "abort"}]})
        {'message': "the reply ended with 'abort'"}
    """
    if not isinstance(answer, dict):
        return None
    if answer.get("error"):
        return answer
    choices = answer.get("choices")
    ended = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    if isinstance(answer.get("meta_info"), dict):
        ended.append(answer["meta_info"])  # of SGLang's own `/generate`
    for one in ended:
        if one.get("error"):
            return {"error": one["error"]}
        reason = one.get("finish_reason")
        details = reason if isinstance(reason, dict) else {}
        name = details.get("type") if details else reason
        if isinstance(name, str) and Ending.of(name) is Ending.FAILED:
            return {"message": f"the reply ended with {name!r}", **details}
    return None


_HTML = re.compile(r"<(?:!doctype|html|\?xml)", re.IGNORECASE)
_BUSY_CODES = ("rate_limit_exceeded", "rate_limit_error", "resource_exhausted", "too_many_requests")
_CODES = ("code", "status_code", "status", "type", "param", "error_type", "err_type")
_WORDS = (
    "message", "msg", "faultstring", "error_message", "error_description", "error", "errors", "fault", "detail",
    "title",
)  # fmt: skip
_DEEPEST = 6


def _unwrap(said: object) -> list[dict[str, Any]]:
    """Return an error's object and those in it, from the outside in."""
    objects: list[dict[str, Any]] = []
    while len(objects) < _DEEPEST:
        if isinstance(said, list):
            said = said[0] if said else None
        if not isinstance(said, dict):
            break
        objects.append(said)
        inside = (said.get(name) for name in _WORDS)
        said = next((one for one in inside if isinstance(one, dict | list)), None)
    return objects


def _find_words(said: object, depth: int = 0) -> str:
    """Find the words in an error of any shape, with the fields that they are about, where they stand beside them."""
    if isinstance(said, str):
        return said
    if depth > _DEEPEST:
        return ""
    if isinstance(said, list):
        return "; ".join(filter(None, (_find_words(one, depth + 1) for one in said[:_DEEPEST])))
    if not isinstance(said, dict):
        return ""
    words = next(filter(None, (_find_words(said.get(name), depth + 1) for name in _WORDS)), "")
    if isinstance(said.get("loc"), list):
        words = f"{'.'.join(map(str, said['loc']))}: {words}"
    upstream = said.get("metadata")
    if isinstance(upstream, dict) and isinstance(upstream.get("raw"), str):  # OpenRouter: what its provider said
        words = f"{words}: {upstream['raw']}"
    return words


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a server asks to wait, in any of the headers that servers have for it.

    These are `retry-after-ms`, Retry-After with seconds or a date (RFC 9110, section 10.2.3), and otherwise when the
    exhausted one of the limits in OpenAI's `x-ratelimit-` headers starts anew. None where there is nothing to read,
    or more than a year, which nobody means: the year 9999, or the seconds since 1970.

    Example:
        >>> read_retry_after({"Retry-After": "1.5"}), read_retry_after({"x-ratelimit-reset-tokens": "6m0s"})
        (1.5, 360.0)
    """
    wait = _find_wait(headers)
    return None if wait is None or wait > _YEAR else wait


def _find_wait(headers: Mapping[str, str]) -> float | None:
    milliseconds = _read_seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    stated = headers.get("Retry-After")
    if stated is not None:
        seconds = _read_seconds(stated)
        return _until(stated) if seconds is None else seconds
    waits = [
        _read_seconds(headers.get(f"x-ratelimit-reset-{limit}", ""))
        for limit in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{limit}", "0").strip() == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[dhms]))+")
_PART = re.compile(r"([0-9.]+)(ms|[dhms])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_YEAR = 366 * _SECONDS["d"]


def _read_seconds(text: str) -> float | None:
    """Read "90", "1.5", "1m30s" or "20ms"; of a list the first."""
    first = text.partition(",")[0].strip()
    if re.fullmatch(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", first):
        return float(first)
    if _DURATION.fullmatch(first):
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(first))
    return None


def _until(text: str) -> float | None:
    try:
        date = parsedate_tz(text)
        return None if date is None else max(mktime_tz((*date[:9], date[9] or 0)) - time.time(), 0.0)
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError):  # not all are in its documentation
        return None


def shorten(message: str, secrets: Sequence[str] = ()) -> str:
    """Return what a server says in one line, without secrets that it repeats."""
    for secret in secrets:
        if len(secret) >= _MIN_SECRET_CHARACTERS:
            message = message.replace(secret, "***")
    message = " ".join(message[:_MOST_CHARACTERS_READ].split())
    return message if len(message) <= MAX_MESSAGE_CHARACTERS else message[: MAX_MESSAGE_CHARACTERS - 3] + "..."
