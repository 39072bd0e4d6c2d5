"""`TransformersEngine`: a Hugging Face model in this process, on a CPU or a GPU."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version

from flip_reward.engines.base import (
    Completion,
    LogprobRequest,
    Request,
    Sampling,
    TokenLogprobs,
    Usage,
    join_completions,
)
from flip_reward.engines.huggingface.batching import BatchQueue
from flip_reward.engines.huggingface.loading import load_hf_model
from flip_reward.engines.huggingface.text import HfPromptTokenizer, ScoredRow, find_stops
from flip_reward.errors import (
    ContextTooLongError,
    EngineUnavailableError,
    OptionError,
    RequestRefusedError,
)

TEXTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a batch."""

    tokens: Sequence[int]
    scored: int = 0
    """How many of the last tokens are scored; 0 where new ones are generated."""
    top: int = 0
    """How many of the likeliest next tokens are wanted."""
    sampling: Sampling | None = None
    """Without the seed."""
    seed: int = 0
    pads: bool = True
    """The model can generate from prompts of different lengths together."""

    @property
    def kind(self) -> object:
        """Log-probabilities go together, and generation with equal options; without padding, of one length."""
        return self.sampling, self.top, self.sampling and not self.pads and len(self.tokens)

    @property
    def length(self) -> int:
        """The tokens that it takes in the end."""
        return len(self.tokens) + (self.sampling.max_tokens if self.sampling else 0)


@dataclass(frozen=True, slots=True)
class _Text:
    """What is turned into tokens."""

    request: Request | LogprobRequest

    @property
    def kind(self) -> object:
        """What is rendered goes together, and what is read as it is."""
        return type(self.request), isinstance(self.request, LogprobRequest) and isinstance(self.request.prefix, str)

    @property
    def length(self) -> int:
        """One stands for any text."""
        return 1


class TransformersEngine:
    """A causal language model run by transformers and torch in this process.

    Requests that wait at the same time are computed together: those of similar length, up to `batch_tokens`, padding
    included. The prefix that a batch shares, and the prompt of a request for several completions, are computed once
    where the model's cache allows it. When memory runs out the batch is halved and stays so. A batch changes results
    in the last digits only, which in bfloat16 can be the third: greedy replies may differ with what else is computed,
    unlike those of the embedded engine.

    Log-probabilities are those of a text without a chat template, or after messages in the model's own. JSON schemas
    are not enforced.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        device: str | None = None,
        context_tokens: int | None = None,
        batch_tokens: int | None = None,
        no_thinking: bool = False,
    ) -> None:
        for option, value in (("context tokens", context_tokens), ("batch tokens", batch_tokens)):
            if value is not None and value < 1:
                raise OptionError(f"{option} must be at least 1, not {value}")
        self.loaded = load_hf_model(model, dtype=dtype, device=device, context_tokens=context_tokens)
        network = self.loaded.network
        self.text = HfPromptTokenizer(self.loaded.tokenizer, self.loaded.name, no_thinking)
        self._stops = find_stops(network, self.loaded.tokenizer)
        from flip_reward.engines.huggingface.compiling import CompiledLayers
        from flip_reward.engines.huggingface.inference import choose_budget

        self._layers = CompiledLayers(network)
        self._queue = BatchQueue[_Row, Sequence[float]](
            self._run, budget_tokens=batch_tokens or choose_budget(network)
        )
        # On the event loop texts would be tokenized one after the other, and a GPU wait for the last.
        self._texts = BatchQueue[_Text, ScoredRow](self._tokenize, budget_tokens=TEXTS_AT_ONCE, gathering_seconds=0)
        self._process_id = os.getpid()
        self.model = self.loaded.name
        precision = str(network.dtype).removeprefix("torch.")
        thinking = "/no-thinking" if no_thinking else ""
        self.identity = (
            f"transformers/{self.model}/{self.loaded.fingerprint}/{precision}"
            f"/transformers-{version('transformers')}{thinking}"
        )

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `Engine.complete`."""
        self._check_usable()
        [text] = await self._texts.compute([_Text(request)])
        tokens = text.tokens
        self._check_length(len(tokens), request.sampling.max_tokens)
        top = await self._rank_first_tokens(tokens, request.top_logprobs) if request.top_logprobs else []
        sampling, seed = replace(request.sampling, seed=None), request.sampling.seed
        replies: Sequence[Sequence[float]]
        if top and sampling.temperature == 0 and sampling.max_tokens == 1:
            replies = [[top[0][0]]] * request.n
        else:
            replies = await self._queue.compute(
                [
                    _Row(tokens, sampling=sampling, seed=_seed_row(seed, number, tokens), pads=self.loaded.pads)
                    for number in range(request.n)
                ]
            )
        # The prompt is computed once for all completions, and counted once.
        prompts = (len(tokens), *[0] * (len(replies) - 1))
        completion = join_completions(
            [self._read_reply(reply, prompt) for reply, prompt in zip(replies, prompts, strict=True)]
        )
        named = tuple([(str(self.loaded.tokenizer.decode([token])), value) for token, value in top])
        return replace(completion, top_logprobs=named) if named else completion

    async def _rank_first_tokens(self, tokens: Sequence[int], count: int) -> list[tuple[int, float]]:
        [ranked] = await self._queue.compute([_Row(tokens, top=count)])
        ids, values = ranked[::2], ranked[1::2]
        _check_finite(values)
        return [(int(token), min(value, 0.0)) for token, value in zip(ids, values, strict=True)]

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        """Say how likely a continuation is; see `Engine.logprobs`."""
        self._check_usable()
        [text] = await self._texts.compute([_Text(request)])
        self._check_length(len(text.tokens), 0)
        [values] = await self._queue.compute([_Row(text.tokens, text.scored)])
        _check_finite(values)
        return TokenLogprobs(tuple(values), Usage(len(text.tokens)))

    async def aclose(self) -> None:
        """Nothing belongs to an event loop. `close` frees the model."""

    def close(self) -> None:
        """Free the model after the current batch. The engine cannot be used afterwards."""
        self._texts.close()
        self._queue.close()
        self._process_id = -1
        del self.loaded

    def _check_usable(self) -> None:
        if os.getpid() != self._process_id:
            raise EngineUnavailableError("the engine was closed, or belongs to another process")

    def _check_length(self, tokens: int, new_tokens: int) -> None:
        limit = self.loaded.context_tokens
        if tokens + new_tokens > limit:
            raise ContextTooLongError(
                f"{tokens} tokens"
                + (f" and {new_tokens} to generate" if new_tokens else "")
                + f" do not fit a context of {limit}"
            )

    def _tokenize(self, texts: Sequence[_Text]) -> Sequence[ScoredRow]:
        questions = [one.request for one in texts if isinstance(one.request, LogprobRequest)]
        if questions:
            return self.text.split_all(questions)
        prompts = [self.text.render(one.request.messages) for one in texts if isinstance(one.request, Request)]
        return list(map(ScoredRow, self.text.encode_all(prompts)))

    def _run(self, rows: Sequence[_Row]) -> Sequence[Sequence[float]]:
        from flip_reward.engines.huggingface.inference import generate_rows, rank_next_tokens, score_rows

        network, sampling, top, pads = self.loaded.network, rows[0].sampling, rows[0].top, self.loaded.pads
        tokens = [row.tokens for row in rows]
        read = sum(map(len, tokens))
        if top:
            ranked = self._layers.run(lambda: rank_next_tokens(network, tokens, top, pads=pads), read)
            return [[number for pair in pairs for number in pair] for pairs in ranked]
        if sampling is None:
            scored = [ScoredRow(row.tokens, row.scored) for row in rows]
            return self._layers.run(lambda: score_rows(network, scored, pads=pads), read)
        seeds = [row.seed for row in rows]
        return generate_rows(network, tokens, sampling, seeds, self._stops, pads=pads)

    def _read_reply(self, tokens: Sequence[float], prompt_tokens: int) -> Completion:
        ids = [int(token) for token in tokens]
        stopped = bool(ids) and ids[-1] in self._stops
        text = self.loaded.tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=True)
        return Completion(text, "stop" if stopped else "length", Usage(prompt_tokens, len(ids)))


def _check_finite(values: Sequence[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise RequestRefusedError(
            "a log-probability is not a number", status=400, hint="use --dtype float32 or bfloat16"
        )


def _seed_row(seed: int | None, number: int, tokens: Sequence[int]) -> int:
    """Return the seed of a row: equal for equal prompts, and for completion i that of a request with the seed + i."""
    if seed is None:
        return secrets.randbits(63)
    digest = sha256(f"{seed + number} {list(tokens)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
