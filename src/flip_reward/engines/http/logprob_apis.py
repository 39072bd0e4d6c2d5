"""How likely a given text is, over HTTP: `HttpLogprobs` and the three APIs that servers have for it.

vLLM has `prompt_logprobs` and SGLang `/generate`; both take tokens, which come from the server's own tokenizer.
Others have the `echo` of the older completions protocol. Whichever it is, the numbers are those of the tokens that
hold a character of the continuation, or there is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Protocol

from flip_reward.core.response import replace_lone_surrogates
from flip_reward.engines.base import LogprobRequest, TokenLogprobs
from flip_reward.engines.http.server import HttpServer, JsonEndpoint
from flip_reward.engines.http.tokenizer import (
    NO_TOKEN_BEFORE,
    TokenizerClient,
    find_first_token,
    find_first_token_forwards,
)
from flip_reward.engines.http.wire import read_usage
from flip_reward.errors import MalformedCompletionError, NoLogprobsError, OptionError, RequestRefusedError

# fmt: off
CHAT_FIELDS = frozenset(
    {
        "add_generation_prompt", "best_of", "chat_template", "chat_template_kwargs", "continue_final_message",
        "documents", "echo", "enable_thinking", "frequency_penalty", "guided_choice", "guided_grammar",
        "guided_json", "guided_regex", "ignore_eos", "include_reasoning", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "min_p", "min_tokens", "n", "parallel_tool_calls",
        "presence_penalty", "prompt", "prompt_logprobs", "reasoning", "reasoning_effort",
        "repetition_penalty", "response_format", "seed", "separate_reasoning", "stop", "stop_token_ids",
        "structured_outputs", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_logprobs",
        "top_p", "truncate_prompt_tokens",
    }
)
# fmt: on
"""Fields of an extra body that shape a chat or how tokens are drawn. They mean nothing for a given text, so requests
for log-probabilities leave them out; all others (who asks, which provider answers, how urgent it is) are sent."""

_MINUS_INFINITY = -9999.0
"""What vLLM writes for minus infinity, which JSON cannot hold."""

_ROUNDING = 1e-3

_ECHO_MAX_TOKENS = 1
"""Some servers do not answer a request that generates nothing."""


class LogprobsApi(StrEnum):
    """The API by which a server says how likely a text is."""

    AUTO = "auto"
    PROMPT_LOGPROBS = "prompt_logprobs"
    ECHO = "echo"
    SGLANG = "sglang"


_APIS_OF_SERVERS: Mapping[str | None, LogprobsApi] = MappingProxyType(
    {"vllm": LogprobsApi.PROMPT_LOGPROBS, "sglang": LogprobsApi.SGLANG}
)


class HttpLogprobs:
    """Gets log-probabilities from a server by the API that it has.

    "auto" goes by the name that vLLM, SGLang and llama.cpp put into their lists of models. Any other server is asked
    for an `echo`, and its answer shows whether it has that API.
    """

    def __init__(self, server: HttpServer, api: LogprobsApi | str, fixed_fields: Mapping[str, object]) -> None:
        try:
            self._api = LogprobsApi(api)
        except ValueError:
            hint = "it is one of " + ", ".join(LogprobsApi)
            raise OptionError(f"there is no API for log-probabilities named {api!r}", hint=hint) from None
        self._server = server
        kept = {name: value for name, value in fixed_fields.items() if name not in CHAT_FIELDS and value is not None}
        self._fields = {"model": server.model, **kept}
        self._client: _ApiClient | None = None

    async def call(self, request: LogprobRequest) -> TokenLogprobs:
        """Get how likely a continuation is; see `HttpEngine.logprobs`."""
        if not isinstance(request.prefix, str):
            raise NoLogprobsError(
                f"a server ({self._server.base_url}), which is sent chat messages as they are,",
                hint="use a template that is not a chat, such as headings, or a model in this process",
            )
        if not request.continuation:
            raise RequestRefusedError("there is no continuation to score", status=400)
        # Requests that come before the API is known each detect it: that is one request more.
        if self._client is None:
            self._client = await self._choose_client()
        prefix, continuation = replace_lone_surrogates(request.prefix), replace_lone_surrogates(request.continuation)
        return await self._client.logprobs(prefix, continuation)

    async def _choose_client(self) -> _ApiClient:
        tokenizer = TokenizerClient(self._server, self._fields)
        api = self._api
        if api is LogprobsApi.AUTO:
            api = await self._detect_api()
            if api is LogprobsApi.PROMPT_LOGPROBS and not await tokenizer.exists():
                api = LogprobsApi.ECHO
        match api:
            case LogprobsApi.PROMPT_LOGPROBS:
                return PromptLogprobsClient(self._server, self._fields, tokenizer)
            case LogprobsApi.SGLANG:
                return SglangClient(self._server, self._fields, tokenizer)
            case _:
                return EchoClient(self._server, self._fields)

    async def _detect_api(self) -> LogprobsApi:
        owner = await self._server.find_owner()
        if owner == "llamacpp":
            raise NoLogprobsError(
                f"{self._server.base_url} is llama.cpp's server, which ignores `echo` and",
                hint="serve the model with vLLM or SGLang, or run it in this process with --model transformers:NAME",
            )
        return _APIS_OF_SERVERS.get(owner, LogprobsApi.ECHO)


class _ApiClient(Protocol):
    async def logprobs(self, prefix: str, continuation: str) -> TokenLogprobs:
        """Get how likely a continuation is."""
        ...


class PromptLogprobsClient:
    """`prompt_logprobs` of vLLM's completions.

    The answer's choice holds `prompt_logprobs`: null for the first token, and for each further one an object from the
    token's number to `{"logprob": ..., "rank": ..., "decoded_token": ...}`. With `prompt_logprobs: 0` it has only the
    prompt's own token.
    """

    def __init__(self, server: HttpServer, fields: Mapping[str, object], tokenizer: TokenizerClient) -> None:
        self._address = server.base_url
        self._completions = JsonEndpoint(server, f"{server.base_url}/completions", fields)
        self._tokenizer = tokenizer

    async def logprobs(self, prefix: str, continuation: str) -> TokenLogprobs:
        """Get how likely a continuation is."""
        address = self._address
        text = await self._tokenizer.split(prefix, continuation)
        answer = await self._completions.post(prompt=text.ids, max_tokens=1, temperature=0, prompt_logprobs=0)
        try:
            entries = answer["choices"][0].get("prompt_logprobs")
            if entries is None:
                raise NoLogprobsError(f"{address}, which ignores `prompt_logprobs`,")
            if len(entries) != len(text.ids):
                raise MalformedCompletionError(
                    f"{address} answered with {len(entries)} log-probabilities for {len(text.ids)} tokens"
                )
            own = [entry and entry[str(one)] for one, entry in zip(text.ids, entries, strict=True)]
            start = text.find_start([entry and entry.get("decoded_token") for entry in own])
            values = [entry and entry["logprob"] for entry in own[start:]]
        except (TypeError, LookupError, AttributeError):
            raise MalformedCompletionError(f"{address} answered about other tokens than were sent") from None
        return TokenLogprobs(read_logprobs(values, address), read_usage(answer.get("usage")))


class SglangClient:
    """SGLang's own `/generate`, beside `/v1`.

    The answer's `meta_info` holds `input_token_logprobs`: from `logprob_start_len` on one `[logprob, number, text]`
    for each token. The first of them has no value, whatever stands before it, so the request starts one token early.
    """

    def __init__(self, server: HttpServer, fields: Mapping[str, object], tokenizer: TokenizerClient) -> None:
        self._address = server.base_url
        self._generate = JsonEndpoint(server, f"{server.root_url}/generate", fields)
        self._tokenizer = tokenizer

    async def logprobs(self, prefix: str, continuation: str) -> TokenLogprobs:
        """Get how likely a continuation is."""
        address = self._address
        text = await self._tokenizer.split(prefix, continuation)
        first = text.shared - 1
        answer = await self._generate.post(
            input_ids=text.ids,
            sampling_params={"max_new_tokens": 0, "temperature": 0},
            return_logprob=True,
            logprob_start_len=first,
            return_text_in_logprobs=text.rejoined,
        )
        try:
            meta_info = answer["meta_info"]
            entries = meta_info.get("input_token_logprobs")
            if entries is None:
                raise NoLogprobsError(f"{address}, which ignores `return_logprob`,")
            if [number for _, number, _ in entries] != text.ids[first:]:
                raise MalformedCompletionError(f"{address} answered about other tokens than were sent")
            texts = [None] * first + [token for _, _, token in entries]
            values = [value for value, _, _ in entries[text.find_start(texts) - first :]]
        except (TypeError, ValueError, LookupError, AttributeError):
            raise MalformedCompletionError(f"{address} answered without log-probabilities") from None
        details = {"cached_tokens": meta_info.get("cached_tokens")}
        usage = read_usage({**meta_info, "prompt_tokens_details": details})
        return TokenLogprobs(read_logprobs(values, address), usage)


class EchoClient:
    """`echo` and `logprobs` of the completions protocol, where the answer repeats the prompt token by token.

    Many servers ignore `echo` and answer about what they generate alone. So an answer counts only if it repeats the
    prompt, has as many tokens as the server counts, and the texts of its tokens spell the prompt up to where the
    continuation begins, or from there on. (The offsets do not show it: vLLM counts the characters of a `<s>` that the
    text does not hold.)
    """

    def __init__(self, server: HttpServer, fields: Mapping[str, object]) -> None:
        self._address = server.base_url
        self._completions = JsonEndpoint(server, f"{server.base_url}/completions", fields)

    async def logprobs(self, prefix: str, continuation: str) -> TokenLogprobs:
        """Get how likely a continuation is."""
        address, prompt = self._address, prefix + continuation
        answer = await self._completions.post(
            prompt=prompt, max_tokens=_ECHO_MAX_TOKENS, temperature=0, logprobs=1, echo=True
        )
        tokens, values = _read_echo(answer, prompt, address)
        start = find_first_token(tokens, prompt, len(prefix))
        if start is None:
            start = find_first_token_forwards(tokens, prompt, len(prefix))
        if start is None:
            raise RequestRefusedError(
                f"the tokens that {address} shows do not say where the continuation begins",
                status=400,
                hint="end the prefix with a line break, or use a server with /tokenize (vLLM, SGLang)",
            )
        if start == 0:
            raise RequestRefusedError(NO_TOKEN_BEFORE, status=400, hint="begin with a prefix")
        return TokenLogprobs(read_logprobs(values[start:], address), read_usage(answer.get("usage")))


def _read_echo(answer: Any, prompt: str, address: str) -> tuple[list[str], list[object]]:  # noqa: ANN401 - JSON
    """Return the texts and the log-probabilities of the prompt's tokens, once it is sure that the answer has them."""
    try:
        choice, count = answer["choices"][0], read_usage(answer.get("usage")).prompt_tokens
        text, logprobs = choice.get("text"), choice.get("logprobs") or {}
        tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
        offsets = logprobs.get("text_offset") or []
    except (TypeError, LookupError, AttributeError):
        raise MalformedCompletionError(f"{address} answered without a completion") from None
    if not isinstance(tokens, list) or len(tokens) <= _ECHO_MAX_TOKENS:
        raise NoLogprobsError(f"{address}, which ignores `echo` or `logprobs`,")
    if not (
        isinstance(text, str)
        and isinstance(values, list)
        and isinstance(offsets, list)
        and all(isinstance(token, str) for token in tokens)
        and all(isinstance(offset, int) for offset in offsets)
    ):
        raise MalformedCompletionError(f"{address} answered without log-probabilities")
    if not text.startswith(prompt):
        raise RequestRefusedError(f"{address} repeats a different text than it was sent", status=400)
    if len(values) != len(tokens) or (offsets and len(offsets) != len(tokens)):
        raise MalformedCompletionError(
            f"{address} answered with {len(values)} log-probabilities and {len(offsets)} offsets for "
            f"{len(tokens)} tokens"
        )
    if any(later < earlier for earlier, later in pairwise(offsets)):
        raise MalformedCompletionError(f"{address} answered with offsets that do not fit its tokens")
    if not 0 <= len(tokens) - count <= _ECHO_MAX_TOKENS:
        raise MalformedCompletionError(
            f"{address} counts {count} tokens in the prompt, and answered with {len(tokens)}"
        )
    return tokens[:count], values[:count]


def read_logprobs(values: Sequence[object], address: str) -> tuple[float, ...]:
    """Take what an answer's JSON holds for the continuation's tokens as log-probabilities.

    A missing number, an impossible token and a number above 0 (not a log-probability) raise different errors.

    Example:
        >>> read_logprobs([-0.5, 0], "http://host/v1")
        (-0.5, 0.0)
    """
    return tuple(_read_logprob(value, address) for value in values)


def _read_logprob(value: object, address: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value) or value == math.inf:
        raise MalformedCompletionError(f"{address} left out the log-probability of a token (it says {value!r})")
    if value <= _MINUS_INFINITY:
        raise RequestRefusedError(
            f"{address} says that a token of the continuation is impossible ({value:g} stands for minus infinity)",
            status=400,
        )
    if value > _ROUNDING:
        raise NoLogprobsError(
            f"{address}, which answers with numbers above 0 ({value:g}),",
            hint="start vLLM with --logprobs-mode raw_logprobs, its default",
        )
    return min(float(value), 0.0)
