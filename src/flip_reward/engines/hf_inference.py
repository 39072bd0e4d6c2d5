"""What a Hugging Face model computes for a batch: log-probabilities of given tokens, and new tokens.

A batch is laid out as

    shared | padding | rest of row 0
    shared |         | rest of row 1, the longest

so that what the rows begin with alike is computed once for all, and every row ends at the same place. Padding is
masked, and positions count without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

from flip_reward.engines.hf_batches import count_shared

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORTH_SHARING_TOKENS = 64
"""A beginning is computed by itself where that saves at least so many tokens."""

MAX_FLOATS = 1 << 25
"""So many logits are turned into log-probabilities at once."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """Tokens of which the last ones are scored.

    Attributes:
        tokens: The whole text.
        scored: How many of the last tokens are scored, at least 1 and fewer than there are.
    """

    tokens: Sequence[int]
    scored: int


@dataclass(frozen=True, slots=True)
class Draw:
    """How new tokens are drawn.

    Attributes:
        max_tokens: The most for each row.
        temperature: 0 takes the likeliest token.
        top_p: Nucleus sampling, above 0 and at most 1.
    """

    max_tokens: int
    temperature: float
    top_p: float


@torch.inference_mode()
def score_rows(network: PreTrainedModel, rows: Sequence[ScoredRow]) -> list[list[float]]:
    """Return the natural logarithm of the probability of each scored token.

    The vocabulary projection, for small models most of the work, is computed at the scored positions only.
    """
    fed = [row.tokens[:-1] for row in rows]  # nothing is predicted from the last token
    longest_shared = min(len(row.tokens) - row.scored - 1 for row in rows)
    batch = _lay_out(network, fed, longest_shared)
    width = batch.rest.shape[1]
    wanted = torch.zeros(batch.rest.shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        wanted[number, width - row.scored :] = True
    targets = torch.tensor([token for row in rows for token in row.tokens[-row.scored :]])
    wanted, targets = wanted.to(network.device), targets.to(network.device)
    with projecting_only(network, wanted):
        logits = network(
            input_ids=batch.rest,
            attention_mask=batch.mask,
            past_key_values=batch.cache,
            use_cache=batch.cache is not None,
            **_positions(network, batch),
        ).logits
    if logits.shape[:2] != (1, len(targets)):
        logits = logits[wanted].unsqueeze(0)  # a model whose head is not where it says
    values = _pick(logits[0], targets)
    return [part.tolist() for part in torch.split(values, [row.scored for row in rows])]


@torch.inference_mode()
def generate_rows(
    network: PreTrainedModel, rows: Sequence[Sequence[int]], draw: Draw, seeds: Sequence[int], stops: Sequence[int]
) -> list[list[int]]:
    """Return the new tokens of each row, with the stop token where there is one.

    What a row draws depends on its seed alone, not on the rows beside it.

    Args:
        network: The model.
        rows: The tokens of each prompt.
        draw: How tokens are drawn, for all rows.
        seeds: One for each row; without meaning at temperature 0.
        stops: The tokens that end a reply.
    """
    batch = _lay_out(network, rows, min(map(len, rows)) - 1)
    processors = LogitsProcessorList()
    if draw.temperature > 0:
        processors.append(_Drawing(draw, seeds))
    output = network.generate(
        batch.whole,
        attention_mask=batch.mask,
        past_key_values=batch.cache,
        logits_processor=processors,
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=draw.max_tokens,
            eos_token_id=list(stops) or None,
            pad_token_id=stops[0] if stops else 0,
            repetition_penalty=1.0,
        ),
    )
    return [_until_stop(new, stops) for new in output[:, batch.whole.shape[1] :].tolist()]


@dataclass(frozen=True, slots=True)
class _Batch:
    whole: torch.Tensor  # rows x (shared + rest)
    mask: torch.Tensor  # rows x (shared + rest)
    shared: int
    cache: DynamicCache | None

    @property
    def rest(self) -> torch.Tensor:
        return self.whole[:, self.shared :] if self.cache is not None else self.whole


def _lay_out(network: PreTrainedModel, rows: Sequence[Sequence[int]], longest_shared: int) -> _Batch:
    shared = min(count_shared(rows), longest_shared)
    width = max(map(len, rows))
    whole = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    cache = None
    if shared * (len(rows) - 1) >= WORTH_SHARING_TOKENS:
        cache = _compute_shared(network, rows[0][:shared], len(rows))
    if cache is None:
        shared = 0
    for number, tokens in enumerate(rows):
        ids = torch.tensor(tokens, dtype=torch.long)
        whole[number, :shared] = ids[:shared]
        whole[number, width - (len(ids) - shared) :] = ids[shared:]
        mask[number, :shared] = 1
        mask[number, width - (len(ids) - shared) :] = 1
    return _Batch(whole.to(network.device), mask.to(network.device), shared, cache)


def _compute_shared(network: PreTrainedModel, tokens: Sequence[int], rows: int) -> DynamicCache | None:
    """Compute what all rows begin with; None for models whose memory is not one entry a token."""
    if "past_key_values" not in inspect.signature(network.forward).parameters:
        return None
    cache = DynamicCache(config=network.config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    ids = torch.tensor([tokens], dtype=torch.long, device=network.device)
    network(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(rows)
    return cache


def _positions(network: PreTrainedModel, batch: _Batch) -> dict[str, torch.Tensor]:
    if "position_ids" not in inspect.signature(network.forward).parameters:
        return {}  # it takes them from the mask
    positions = (batch.mask.cumsum(dim=1) - 1).clamp(min=0)
    return {"position_ids": positions[:, batch.mask.shape[1] - batch.rest.shape[1] :]}


@contextmanager
def projecting_only(network: PreTrainedModel, wanted: torch.Tensor) -> Iterator[None]:
    """Let the output layer see only some positions; whatever the model does with its logits it still does."""
    head = network.get_output_embeddings()
    if head is None:
        yield
        return

    def choose(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden, *others = inputs
        return (hidden[wanted].unsqueeze(0), *others) if hidden.shape[:2] == wanted.shape else inputs

    handle = head.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def _pick(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    rows = max(1, MAX_FLOATS // logits.shape[-1])
    parts = []
    for some, wanted in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True):
        exact = some.float()
        parts.append(exact.gather(1, wanted[:, None])[:, 0] - exact.logsumexp(dim=1))
    return torch.cat(parts).clamp(max=0)  # rounding may put a certain token a hair above


class _Drawing:
    """Leaves one token of each row, drawn by inverting the distribution function at the row's own random numbers."""

    def __init__(self, draw: Draw, seeds: Sequence[int]) -> None:
        self._draw = draw
        self._step = 0
        self._numbers = torch.stack(
            [torch.rand(draw.max_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        numbers = self._numbers[:, self._step, None].to(scores.device)
        self._step += 1
        ordered, tokens = (scores.float() / self._draw.temperature).softmax(dim=-1).sort(dim=-1, descending=True)
        mass = ordered.cumsum(dim=-1)
        ordered[mass - ordered >= self._draw.top_p] = 0
        mass = ordered.cumsum(dim=-1)
        drawn = torch.searchsorted(mass, numbers * mass[:, -1:], right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens.gather(1, drawn), 0.0)


def _until_stop(tokens: list[int], stops: Sequence[int]) -> list[int]:
    end = next((number for number, token in enumerate(tokens, start=1) if token in stops), len(tokens))
    return tokens[:end]
