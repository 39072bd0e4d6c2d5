"""`LlamaSlot`: one llama.cpp server in this process that works on one request at a time.

How likely given tokens are, from a llama.cpp server that tells it of the tokens it generates only.

It gets a grammar that leaves it one token at each place, and tells how likely that token was before the grammar had
a say. Tokens that are no whole characters cannot be led so: their places are asked for one by one, with the
probabilities of the whole vocabulary.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import orjson

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, Request, Sampling, TokenLogprobs, Usage
from flip_reward.engines.http.wire import encode_request
from flip_reward.errors import (
    ContextTooLongError,
    EngineServerError,
    EngineUnavailableError,
    MalformedCompletionError,
    MissingDependencyError,
    RequestRefusedError,
)

if TYPE_CHECKING:
    from xllamacpp import CommonParams, Server


@dataclass(frozen=True, slots=True)
class LlamaTokens:
    """Tokens of which the last ones are the continuation's.

    Attributes:
        tokens: The whole text.
        whole: For each of the last tokens, which are scored, whether it is of whole characters.
        plain: Any token of whole characters.
        vocabulary: How many tokens the model knows.
    """

    tokens: list[int]
    whole: tuple[bool, ...]
    plain: int
    vocabulary: int

    @property
    def scored(self) -> int:
        """How many of the last tokens hold a character of the continuation."""
        return len(self.whole)


@dataclass(frozen=True, slots=True)
class _Told:
    """What llama.cpp tells of one place: the token there, how likely it was, and how likely others were."""

    token: int
    value: float
    others: dict[int, float]


def score_tokens(server: Server, text: LlamaTokens) -> tuple[float, ...]:
    """Return the natural logarithm of the probability of each scored token.

    Raises:
        ContextTooLongError: The text does not fit the context.
        RequestRefusedError: llama.cpp cannot be led to these tokens.
        EngineServerError: It failed.
    """
    values: list[float] = []
    place = len(text.tokens) - text.scored
    reuse = False  # what an earlier request left must not matter
    for whole, run in groupby(text.whole):
        count = len(list(run))
        if whole:
            values += _lead(server, text.tokens, place, count, reuse=reuse)
        else:
            for one in range(place, place + count):
                values.append(_look_up(server, text, one, reuse=reuse))
                reuse = True
        place, reuse = place + count, True
    return tuple(min(value, 0.0) for value in values)


def _lead(server: Server, tokens: Sequence[int], place: int, count: int, *, reuse: bool) -> Iterator[float]:
    wanted = list(tokens[place : place + count])
    told = _generate(server, tokens[:place], wanted, others=1, reuse=reuse)
    if [one.token for one in told] != wanted:
        raise RequestRefusedError("llama.cpp generated other tokens than those to score", status=400)
    return (one.value for one in told)


def _look_up(server: Server, text: LlamaTokens, place: int, *, reuse: bool) -> float:
    [told] = _generate(server, text.tokens[:place], [text.plain], others=text.vocabulary, reuse=reuse)
    value = told.others.get(text.tokens[place])
    if value is None:
        raise RequestRefusedError("llama.cpp does not tell how likely a token is", status=400)
    return value


def _generate(
    server: Server, prompt: Sequence[int], wanted: Sequence[int], *, others: int, reuse: bool
) -> list[_Told]:
    answer = server.handle_completions(
        {
            "prompt": list(prompt),
            "max_tokens": len(wanted),
            "temperature": 0,
            "logprobs": others,
            "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in wanted),
            "cache_prompt": reuse,
        }
    )
    if "error" in answer:
        message = str(answer["error"].get("message"))
        if answer["error"].get("type") == "exceed_context_size_error":
            raise ContextTooLongError(f"llama.cpp: {message}")
        raise EngineServerError(f"llama.cpp: {message}")
    told = [
        _Told(
            one["id"], float(one["logprob"]), {other["id"]: float(other["logprob"]) for other in one["top_logprobs"]}
        )
        for one in answer["choices"][0]["logprobs"]["content"]
    ]
    if len(told) < len(wanted):
        raise ContextTooLongError(f"{len(prompt) + len(wanted)} tokens do not fit the context")
    return told


STREAM_FIELDS = {"stream": True, "stream_options": {"include_usage": True}}
PRIMING = Sampling(max_tokens=1)


@dataclass(frozen=True, slots=True)
class SlotOptions:
    """How a slot runs the model.

    Attributes:
        context_tokens: The most tokens of one prompt and its reply.
        threads: The threads that compute.
        template_fields: Fields for the chat template of every request.
        adapter: A LoRA adapter as a GGUF file, which is added to the model.
        exact_memory: Keep what was read in float32 instead of float16: twice the memory, for comparisons with other
            engines.
    """

    context_tokens: int
    threads: int
    template_fields: Mapping[str, object]
    adapter: Path | None = None
    exact_memory: bool = False


class LlamaSlot:
    """A model in memory that answers one request at a time.

    A reply depends on the request alone, bit for bit, whatever was asked before:

    - nothing is computed together with another request, because a matrix kernel may round differently for another
      number of rows;
    - attention sums in an order that does not depend on the number of threads (no flash attention);
    - of a prompt, exactly the part that its last message does not touch is taken from the previous one: a prompt with
      that message emptied (`_prime`) cuts the memory back to it.

    llama.cpp's server insists on listening somewhere. It gets a socket in a private directory that is gone when the
    constructor returns, and an API key that nobody knows.

    Args:
        model_path: A GGUF file.
        options: How to run it.

    Raises:
        EngineUnavailableError: llama.cpp cannot load the file.
        MissingDependencyError: xllamacpp is not installed.
    """

    def __init__(self, model_path: Path, options: SlotOptions) -> None:
        parameters = make_parameters(model_path, options)
        with tempfile.TemporaryDirectory(prefix="flip-") as private_directory:
            parameters.hostnames = [f"{private_directory}/llama.sock"]
            self._server = start_server(parameters, options.adapter)
        # Waits until llama.cpp's own thread runs: a server that is freed before that is never done freeing.
        self._server.handle_completions({"prompt": " ", "max_tokens": 1})
        self._options = options
        self._primed: tuple[Message, ...] = ()
        self._reuses_prefix = True

    def answer(self, request: Request, cancelled: Event) -> Completion:
        """Answer one request; blocks until the reply is complete or `cancelled` is set.

        Raises:
            ContextTooLongError: Prompt and reply do not fit the context.
            RequestRefusedError: The chat template or the schema cannot be used with this request.
            EngineServerError: llama.cpp failed.
            MalformedCompletionError: It sent no complete reply.
        """
        reuse = self._reuses_prefix and len(request.messages) > 1 and request.messages[-1].content != ""
        if reuse:
            self._prime(request.messages, cancelled)
        completion = self._ask(request, cancelled, reuse=reuse)
        if reuse and completion.usage.cached_tokens == 0:
            self._reuses_prefix = False  # a recurrent model: its state cannot be cut back
        tokens = completion.usage
        if completion.finish_reason == "length" and tokens.completion_tokens < request.sampling.max_tokens:
            raise ContextTooLongError(
                f"{tokens.prompt_tokens} tokens of prompt leave room for {tokens.completion_tokens} of the "
                f"{request.sampling.max_tokens} to generate in a context of {self._options.context_tokens}"
            )
        return completion

    def score(self, text: LlamaTokens) -> TokenLogprobs:
        """Say how likely the last tokens of a text are.

        Raises:
            ContextTooLongError: The text does not fit the context.
            RequestRefusedError: llama.cpp cannot be led to these tokens.
            EngineServerError: It failed.
        """
        self._primed = ()
        return TokenLogprobs(score_tokens(self._server, text), Usage(len(text.tokens)))

    def _prime(self, messages: tuple[Message, ...], cancelled: Event) -> None:
        """Bring the memory to the state that every request with the same messages before its last one starts from."""
        prefix = (*messages[:-1], replace(messages[-1], content=""))
        known = prefix == self._primed
        self._primed = ()
        self._ask(Request(prefix, PRIMING), cancelled, reuse=known)
        self._primed = prefix

    def _ask(self, request: Request, cancelled: Event, *, reuse: bool) -> Completion:
        fields = {**STREAM_FIELDS, **self._options.template_fields, "cache_prompt": reuse}
        body = encode_request("", request, fields)
        chunks: list[bytes] = []

        def receive(chunk: bytes) -> bool:
            chunks.append(chunk)
            return cancelled.is_set()

        self._send(body, receive)
        return join_chunks(chunks)

    def _send(self, body: bytes, receive: Callable[[bytes], bool]) -> None:
        try:
            self._server.handle_chat_completions(body, receive)
        except (RuntimeError, ValueError, IndexError) as error:
            # What llama.cpp throws before a request is queued: the chat template or the schema cannot be used.
            raise RequestRefusedError(f"llama.cpp refused: {error}", status=400) from error


def make_parameters(model_path: Path, options: SlotOptions) -> CommonParams:
    """Return how llama.cpp runs a model here; where it listens is left to the caller.

    Raises:
        MissingDependencyError: xllamacpp is not installed.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingDependencyError("xllamacpp", extra="local") from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model_path)
    if options.adapter is not None:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(options.adapter), 1.0)]
    if options.exact_memory:
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.n_parallel = 1
    parameters.n_ctx = options.context_tokens
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0
    parameters.swa_full = True  # without it a sliding window keeps what earlier requests left
    parameters.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    parameters.prefill_assistant = False
    parameters.warmup = False
    parameters.verbosity = -1
    parameters.n_threads_http = 1
    parameters.api_keys = [secrets.token_hex()]
    return parameters


def start_server(parameters: CommonParams, adapter: Path | None = None) -> Server:
    """Load a model.

    Raises:
        EngineUnavailableError: llama.cpp cannot load it.
    """
    import xllamacpp

    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as error:
        what = Path(parameters.model.path).name + (f" with the adapter {adapter.name}" if adapter else "")
        raise EngineUnavailableError(
            f"llama.cpp cannot load {what}",
            hint="the file may be damaged, of an unknown architecture, or larger than the memory",
        ) from error


def join_chunks(chunks: list[bytes]) -> Completion:
    """Put the chunks of a streamed chat completion together.

    Raises:
        EngineError: They hold an error, or no complete reply.

    Example:
        >>> join_chunks(
        ...     [
        ...         b'{"choices": [{"delta": {"content": "Hi"}, "finish_reason": null}]}',
        ...         b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}',
        ...     ]
        ... ).text
        'Hi'
    """
    texts: list[str] = []
    finish_reason: str | None = None
    usage = Usage()
    for chunk in map(orjson.loads, chunks):
        if "error" in chunk:
            _raise_error(chunk["error"])
        for choice in chunk["choices"]:
            texts.append(choice["delta"].get("content") or "")
            finish_reason = choice["finish_reason"] or finish_reason
        if "usage" in chunk:
            cached_tokens = chunk["usage"]["prompt_tokens_details"]["cached_tokens"]
            usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"], cached_tokens)
    if finish_reason is None:
        raise MalformedCompletionError("llama.cpp sent no complete reply")
    return Completion("".join(texts), finish_reason, usage)


def _raise_error(error: Mapping[str, object]) -> None:
    message, status = f"llama.cpp: {error['message']}", error["code"]
    if error["type"] == "exceed_context_size_error":
        raise ContextTooLongError(message)
    if isinstance(status, int) and status < 500:
        raise RequestRefusedError(message, status=status)
    raise EngineServerError(message)
