"""`LlamaSlot`: one llama.cpp server in this process that works on one request at a time.

llama.cpp reports log-probabilities only of tokens that it generates. To score given tokens it gets a grammar that
allows one token at each position, and reports how likely that token was before the grammar was applied. A grammar
cannot name tokens that are not whole characters: those are looked up one by one, in the probabilities of the whole
vocabulary.
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
from flip_reward.core.score import Usage
from flip_reward.engines.base import (
    Completion,
    Request,
    Sampling,
    TokenLogprobs,
    join_completions,
    split_request,
)
from flip_reward.engines.http.first_token import read_first_token
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

_STREAM_FIELDS = {"stream": True, "stream_options": {"include_usage": True}}
_PRIMING = Sampling(max_tokens=1)
ENDING_CHARACTERS = 8
"""How much of a message is read again for each further completion."""
ENDING_TOKENS = 8
"""How much of a prefix is read again for each further continuation."""
LEAST_SHARED = 64
"""How many tokens two prefixes share at least where those are not read again."""
AT_ONCE = 512
"""How many tokens of a prompt llama.cpp reads at once; what is left it reads after them."""


@dataclass(frozen=True, slots=True)
class SlotOptions:
    """How a slot runs the model."""

    context_tokens: int
    threads: int
    template_fields: Mapping[str, object]
    """For the chat template of every request."""
    adapter: Path | None = None
    exact_cache: bool = False
    """The KV cache is in float32 instead of float16: twice the memory, for comparisons with other engines."""


class LlamaSlot:
    """A model in memory that answers one request at a time.

    A reply depends on the request alone, bit for bit, whatever came before:

    - nothing is computed together with another request, because a matrix kernel may round differently for another
      number of rows;
    - attention sums in an order that does not depend on the number of threads (no flash attention);
    - of a prompt, exactly the part that its last message does not touch is reused from the previous one: a prompt
      with that message emptied (`_prime`) cuts the KV cache back to it;
    - of several completions, each after the first reuses the prompt up to its last few words (`_cut_back`);
    - of texts to score, each reuses what the one before shares with its prefix, up to the last few tokens.

    What is reused was read together with other tokens, and so is what is read again: llama.cpp computes a single one
    by other kernels, which round otherwise. A prompt of which one would be left (`ends_alone`) is read as a whole.

    llama.cpp's server has to listen somewhere. It gets a socket in a private directory that is gone when the
    constructor returns, and an API key that nobody knows.
    """

    def __init__(self, model_path: Path, options: SlotOptions) -> None:
        parameters = make_parameters(model_path, options)
        with tempfile.TemporaryDirectory(prefix="flip-") as private_directory:
            parameters.hostnames = [f"{private_directory}/llama.sock"]
            self.server = start_server(parameters, options.adapter)
        # Waits until llama.cpp's own thread runs: a server that is freed before that is never done freeing.
        self.server.handle_completions({"prompt": " ", "max_tokens": 1})
        self._options = options
        self._primed: tuple[Message, ...] = ()
        self._prefix: Sequence[int] = ()
        self._reuses_prefix = True

    def answer(self, request: Request, cancelled: Event) -> Completion:
        """Answer one request; blocks until every reply is complete or `cancelled` is set."""
        first, *more = split_request(request)
        self._prefix = ()
        replies = [self._answer_first(first, cancelled)]
        apart = ends_alone(replies[0].usage.prompt_tokens - replies[0].usage.cached_tokens)
        for one in more:
            if apart:
                replies.append(self._answer_first(one, cancelled))
                continue
            if self._reuses_prefix:
                self._cut_back(request.messages, cancelled)
            replies.append(self._complete(one, cancelled, reuse=self._reuses_prefix))
            if replies[-1].usage.cached_tokens == 0 and len(request.messages[-1].content) > ENDING_CHARACTERS:
                self._reuses_prefix = False
        return join_completions(replies)

    def _answer_first(self, request: Request, cancelled: Event) -> Completion:
        reuse = self._reuses_prefix and request.messages[-1].content != ""
        if reuse:
            self._prime(request.messages, cancelled)
        completion = self._complete(request, cancelled, reuse=reuse)
        if len(request.messages) > 1 and reuse and completion.usage.cached_tokens == 0:
            self._reuses_prefix = False  # a recurrent model: its state cannot be cut back
        return completion

    def score(self, text: LlamaTokens) -> TokenLogprobs:
        """Say how likely the last tokens of a text are."""
        self._primed = ()
        prefix = text.prefix
        kept = min(self.count_shared(prefix), len(prefix) - ENDING_TOKENS)
        reuse = kept >= LEAST_SHARED and self._reuses_prefix and not ends_alone(len(prefix))
        self._prefix = ()
        if reuse:
            reuse = self._keep_tokens(prefix, kept - ends_alone(len(prefix) - kept), text.vocabulary)
        values = score_tokens(self.server, text, reuse=reuse)
        self._prefix = prefix[:-1]  # the last one may have been read alone
        return TokenLogprobs(values, Usage(len(text.tokens)))

    def count_shared(self, prefix: Sequence[int]) -> int:
        """Count the first tokens of a prefix that were read for the text before."""
        pairs = enumerate(zip(self._prefix, prefix, strict=False))
        return next((place for place, (one, other) in pairs if one != other), min(len(self._prefix), len(prefix)))

    def _keep_tokens(self, tokens: Sequence[int], count: int, vocabulary: int) -> bool:
        """Cut the KV cache back to the first tokens, with another one behind them; say whether that is possible."""
        other = (tokens[count] + 1) % vocabulary
        body = {"prompt": [*tokens[:count], other], "max_tokens": 1, "temperature": 0, "cache_prompt": True}
        usage = self.server.handle_completions(body)["usage"]
        self._reuses_prefix = usage["prompt_tokens_details"]["cached_tokens"] > 0  # not of a recurrent model
        return self._reuses_prefix

    def _prime(self, messages: tuple[Message, ...], cancelled: Event) -> None:
        """Bring the KV cache to the state that all requests with the same messages before the last one start from."""
        prefix = (*messages[:-1], replace(messages[-1], content=""))
        known = prefix == self._primed
        self._primed = ()
        self._complete(Request(prefix, _PRIMING), cancelled, reuse=known)
        self._primed = prefix

    def _cut_back(self, messages: tuple[Message, ...], cancelled: Event) -> None:
        """Leave the end of a prompt to be read again: a single token would be computed by other kernels."""
        shortened = messages[-1].content.rstrip()[:-ENDING_CHARACTERS]
        cut = (*messages[:-1], replace(messages[-1], content=shortened))
        self._complete(Request(cut, _PRIMING), cancelled, reuse=True)

    def _complete(self, request: Request, cancelled: Event, *, reuse: bool) -> Completion:
        fields = {**_STREAM_FIELDS, **self._options.template_fields, "cache_prompt": reuse}
        body = encode_request("", request, fields)
        chunks: list[bytes] = []

        def receive(chunk: bytes) -> bool:
            chunks.append(chunk)
            return cancelled.is_set()

        self.stream(body, receive)
        completion = join_chunks(chunks, top_logprobs=request.top_logprobs)
        tokens, most = completion.usage, request.sampling.max_tokens
        if completion.finish_reason == "length" and tokens.completion_tokens < most:
            raise ContextTooLongError(
                f"{tokens.prompt_tokens} tokens of prompt leave room for {tokens.completion_tokens} of the {most} "
                f"to generate in a context of {self._options.context_tokens}"
            )
        return completion

    def stream(self, body: bytes, receive: Callable[[bytes], bool]) -> None:
        """Send the body of a chat completion, and receive its chunks until one is answered with True."""
        try:
            self.server.handle_chat_completions(body, receive)
        except (RuntimeError, ValueError, IndexError) as error:
            # What llama.cpp throws before a request is queued: the chat template or the schema cannot be used.
            raise RequestRefusedError(f"llama.cpp refused: {error}", status=400) from error


def make_parameters(model_path: Path, options: SlotOptions) -> CommonParams:
    """Return llama.cpp's parameters for a model, without the address."""
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingDependencyError("xllamacpp", extra="local") from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model_path)
    if options.adapter is not None:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(options.adapter), 1.0)]
    if options.exact_cache:
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
    """Load a model."""
    import xllamacpp

    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as error:
        what = Path(parameters.model.path).name + (f" with the adapter {adapter.name}" if adapter else "")
        raise EngineUnavailableError(
            f"llama.cpp cannot load {what}",
            hint="the file may be damaged, of an unknown architecture, or larger than the memory",
        ) from error


def join_chunks(chunks: list[bytes], *, top_logprobs: int = 0) -> Completion:
    """Put the chunks of a streamed chat completion together."""
    texts: list[str] = []
    finish_reason: str | None = None
    usage = Usage()
    top: tuple[tuple[str, float], ...] = ()
    for chunk in map(orjson.loads, chunks):
        if "error" in chunk:
            _raise_error(chunk["error"])
        for choice in chunk["choices"]:
            texts.append(choice["delta"].get("content") or "")
            finish_reason = choice["finish_reason"] or finish_reason
            if top_logprobs and not top and choice.get("logprobs"):
                top = read_first_token(choice, top_logprobs)
        if "usage" in chunk:
            cached_tokens = chunk["usage"]["prompt_tokens_details"]["cached_tokens"]
            usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"], cached_tokens)
    if finish_reason is None:
        raise MalformedCompletionError("llama.cpp sent no complete reply")
    return Completion("".join(texts), finish_reason, usage, top_logprobs=top)


def _raise_error(error: Mapping[str, object]) -> None:
    message, status = f"llama.cpp: {error['message']}", error["code"]
    if error["type"] == "exceed_context_size_error":
        raise ContextTooLongError(message)
    if isinstance(status, int) and status < 500:
        raise RequestRefusedError(message, status=status)
    raise EngineServerError(message)


@dataclass(frozen=True, slots=True)
class LlamaTokens:
    """Tokens; the last ones are the continuation's."""

    tokens: list[int]
    whole: tuple[bool, ...]
    """For each of the last tokens, which are scored, whether it is of whole characters."""
    plain: int
    """Any token of whole characters."""
    vocabulary: int
    """How many tokens the model knows."""

    @property
    def scored(self) -> int:
        """How many of the last tokens hold a character of the continuation."""
        return len(self.whole)

    @property
    def prefix(self) -> list[int]:
        """The tokens before the first one that is scored."""
        return self.tokens[: -self.scored]


@dataclass(frozen=True, slots=True)
class _Generated:
    """A generated token, its log-probability, and those of other tokens at its position."""

    token: int
    value: float
    others: dict[int, float]


def ends_alone(tokens: int) -> bool:
    """Whether llama.cpp reads the last one of so many tokens by itself.

    Example:
        >>> [ends_alone(count) for count in (1, 512, 513, 514)]
        [False, False, True, False]
    """
    return tokens > 1 and tokens % AT_ONCE == 1


def score_tokens(server: Server, text: LlamaTokens, *, reuse: bool = False) -> tuple[float, ...]:
    """Return the natural logarithm of the probability of each scored token.

    With `reuse` the server has the beginning of the text in its cache, else nothing that it holds matters.
    """
    values: list[float] = []
    position = len(text.tokens) - text.scored
    for whole, run in groupby(text.whole):
        count = len(list(run))
        if whole:
            values += _score_by_grammar(server, text.tokens, position, count, reuse=reuse)
        else:
            for one in range(position, position + count):
                values.append(_score_by_vocabulary(server, text, one, reuse=reuse))
                reuse = True
        position, reuse = position + count, True
    return tuple(min(value, 0.0) for value in values)


def _score_by_grammar(
    server: Server, tokens: Sequence[int], position: int, count: int, *, reuse: bool
) -> Iterator[float]:
    wanted = list(tokens[position : position + count])
    generated = _generate(server, tokens[:position], wanted, others=1, reuse=reuse)
    if [one.token for one in generated] != wanted:
        raise RequestRefusedError("llama.cpp generated other tokens than those to score", status=400)
    return (one.value for one in generated)


def _score_by_vocabulary(server: Server, text: LlamaTokens, position: int, *, reuse: bool) -> float:
    prompt = text.tokens[:position]
    [generated] = _generate(server, prompt, [text.plain], others=text.vocabulary, reuse=reuse)
    value = generated.others.get(text.tokens[position])
    if value is None:
        raise RequestRefusedError("llama.cpp did not say how likely a token is", status=400)
    return value


def _generate(
    server: Server, prompt: Sequence[int], wanted: Sequence[int], *, others: int, reuse: bool
) -> list[_Generated]:
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
    generated = [
        _Generated(
            one["id"], float(one["logprob"]), {other["id"]: float(other["logprob"]) for other in one["top_logprobs"]}
        )
        for one in answer["choices"][0]["logprobs"]["content"]
    ]
    if len(generated) < len(wanted):
        raise ContextTooLongError(f"{len(prompt) + len(wanted)} tokens do not fit the context")
    return generated
