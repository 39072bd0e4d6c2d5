"""What a Hugging Face model computes for a batch: log-probabilities of given tokens, and new tokens.

The prefix that all rows of a batch share is computed once. Behind it rows are laid out as

    shared | rest of row 0 | padding        to score: what comes later changes nothing before it
    shared | padding | rest of row 0        to generate: every row goes on at the same place, and padding is masked

Whether a model is causal and can generate like this is tried out at loading: its code does not say.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

from flip_reward.engines.base import Sampling
from flip_reward.engines.huggingface.text import ScoredRow
from flip_reward.errors import RequestRefusedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


MIN_SAVED_TOKENS = 64
"""A shared prefix is computed by itself where that saves at least this many tokens."""

MAX_LOGITS = 1 << 25
"""How many logits are turned into log-probabilities at once."""

WIDENED_ROWS = 1 << 14
"""How many rows of an output layer are turned into float32 at once."""

BATCH_TOKENS_CPU, BATCH_TOKENS_GPU = 4096, 65536


def choose_budget(network: PreTrainedModel) -> int:
    """Choose how many tokens a batch may have: on a GPU of Nvidia's what half of its free memory holds.

    A token takes its keys and values in every layer, and what one layer computes of it.
    """
    if network.device.type != "cuda":
        return BATCH_TOKENS_CPU if network.device.type == "cpu" else BATCH_TOKENS_GPU
    config = network.config.get_text_config()
    try:
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        numbers = 2 * config.num_hidden_layers * heads * size + 3 * config.intermediate_size + 8 * config.hidden_size
    except AttributeError:
        return BATCH_TOKENS_GPU
    free, _ = torch.cuda.mem_get_info(network.device)
    fitting: int = free // 2 // (numbers * network.dtype.itemsize)
    return max(BATCH_TOKENS_CPU, fitting)


@torch.inference_mode()
def score_rows(network: PreTrainedModel, rows: Sequence[ScoredRow]) -> list[list[float]]:
    """Return the natural logarithm of the probability of each scored token.

    The vocabulary projection, for small models most of the work, is computed at the scored positions only.
    """
    fed = [row.tokens[:-1] for row in rows]  # nothing is predicted from the last token
    logits = _compute_logits(network, fed, [row.scored for row in rows])
    targets = torch.tensor([token for row in rows for token in row.tokens[-row.scored :]], device=network.device)
    values = _gather_logprobs(logits, targets)
    return [part.tolist() for part in torch.split(values, [row.scored for row in rows])]


@torch.inference_mode()
def rank_next_tokens(
    network: PreTrainedModel, rows: Sequence[Sequence[int]], count: int
) -> list[list[tuple[int, float]]]:
    """Return the likeliest tokens after each row, the likeliest first, with the logarithm of their probability."""
    with _projecting_exactly(network):
        logits = _compute_logits(network, rows, [1] * len(rows)).float()
    values, tokens = logits.log_softmax(dim=-1).topk(min(count, logits.shape[-1]), dim=-1)
    return [
        list(zip(of_row, their_values, strict=True))
        for of_row, their_values in zip(tokens.tolist(), values.tolist(), strict=True)
    ]


def _compute_logits(
    network: PreTrainedModel, rows: Sequence[Sequence[int]], predicting: Sequence[int]
) -> torch.Tensor:
    """Return what is predicted from the last tokens of every row, as many as `predicting` says, one after another."""
    longest = min(len(row) - count for row, count in zip(rows, predicting, strict=True))
    shared = _compute_shared_prefix(network, rows, longest, worth=0.5 if network.device.type == "cuda" else 0)
    rest = torch.zeros((len(rows), max(map(len, rows)) - shared.length), dtype=torch.long)
    wanted = torch.zeros(rest.shape, dtype=torch.bool)
    for number, (tokens, count) in enumerate(zip(rows, predicting, strict=True)):
        length = len(tokens) - shared.length
        rest[number, :length] = torch.tensor(tokens[shared.length :])
        wanted[number, length - count : length] = True
    rest, wanted = rest.to(network.device), wanted.to(network.device)
    with projecting_only(network, wanted):
        logits: torch.Tensor = network(input_ids=rest, use_cache=bool(shared.cache), **shared.cache).logits
    # Otherwise it is a model whose head is not where it says.
    return logits[0] if logits.shape[:2] == (1, sum(predicting)) else logits[wanted]


@torch.inference_mode()
def generate_rows(
    network: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    stops: Sequence[int],
) -> list[list[int]]:
    """Return the new tokens of each row, with the stop token where there is one.

    What a row draws depends on its own seed alone, not on the rows beside it.
    """
    processors = LogitsProcessorList([_check_finite])
    if sampling.temperature > 0:
        processors.append(_Sampler(sampling, seeds))
    prompts = lay_out_prompts(network, rows)
    output = network.generate(
        **prompts,
        logits_processor=processors,
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=list(stops) or None,
            pad_token_id=stops[0] if stops else 0,
        ),
    )
    return [_until_stop(new, stops) for new in output[:, max(map(len, rows)) :].tolist()]


def lay_out_prompts(network: PreTrainedModel, rows: Sequence[Sequence[int]]) -> dict[str, object]:
    """Return prompts as `generate` takes them; the prefix that they share is computed already."""
    shared = _compute_shared_prefix(network, rows, min(map(len, rows)) - 1)
    width = max(map(len, rows))
    whole = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for number, tokens in enumerate(rows):
        mask[number, : shared.length] = True
        mask[number, width - len(tokens) + shared.length :] = True
        whole[number, mask[number]] = torch.tensor(tokens)
    return {
        "input_ids": whole.to(network.device),
        "attention_mask": mask.long().to(network.device),
        **shared.cache,
    }


@dataclass(frozen=True, slots=True)
class _SharedPrefix:
    """How many tokens all rows begin with, and the cache of them, once for each row, by the name of its argument."""

    length: int = 0
    cache: Mapping[str, DynamicCache] = field(default_factory=dict)


def _compute_shared_prefix(
    network: PreTrainedModel, rows: Sequence[Sequence[int]], longest: int, *, worth: float = 0
) -> _SharedPrefix:
    """Compute what all rows begin with, where that saves work and the cache has one entry a token.

    `worth` is the least share of the tokens: GPUs read behind a cache with a slower attention than without one.
    """
    length = min(count_shared(rows), longest)
    if length * (len(rows) - 1) < max(MIN_SAVED_TOKENS, worth * sum(map(len, rows))):
        return _SharedPrefix()
    name = _cache_argument(network)
    if name is None:
        return _SharedPrefix()
    cache = DynamicCache(config=network.config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return _SharedPrefix()
    ids = torch.tensor([rows[0][:length]], dtype=torch.long, device=network.device)
    network(input_ids=ids, use_cache=True, logits_to_keep=1, **{name: cache})
    cache.batch_repeat_interleave(len(rows))
    return _SharedPrefix(length, {name: cache})


def count_shared(rows: Sequence[Sequence[int]]) -> int:
    """Count the tokens that all rows begin with."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False)))


def _cache_argument(network: PreTrainedModel) -> str | None:
    """The argument that takes a model's cache: transformers has renamed it in 5.24, and warns of the former name."""
    taken = inspect.signature(network.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in taken), None)


@contextmanager
def projecting_only(network: PreTrainedModel, wanted: torch.Tensor) -> Iterator[None]:
    """Let the output layer see only some positions; the rest of the model is unchanged."""
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


@contextmanager
def _projecting_exactly(network: PreTrainedModel) -> Iterator[None]:
    """Let the output layer compute in float32: logits of bfloat16 are 1/8 apart above 16, and so would their odds be.

    Its weights are widened some rows at a time, for all of them would take twice the memory that they have.
    """
    head = network.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.weight.dtype == torch.float32:
        yield
        return

    def project(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> torch.Tensor:
        parts = [
            functional.linear(inputs[0].float(), some.float()) for some in torch.split(head.weight, WIDENED_ROWS)
        ]
        exact, bias = torch.cat(parts, dim=-1), getattr(head, "bias", None)
        return exact if bias is None else exact + bias.float()

    handle = head.register_forward_hook(project)
    try:
        yield
    finally:
        handle.remove()


def _gather_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    rows = max(1, MAX_LOGITS // logits.shape[-1])
    parts = []
    for some, wanted in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True):
        exact = some.float()
        parts.append(exact.gather(1, wanted[:, None])[:, 0] - exact.logsumexp(dim=1))
    return torch.cat(parts).clamp(max=0)  # rounding may put a certain token a hair above


def _check_finite(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
    if bool(scores.isnan().any()) or not bool(scores.isfinite().any(dim=-1).all()):
        raise RequestRefusedError(
            "the model computes values that are not a number", status=400, hint="use --dtype float32 or bfloat16"
        )
    return scores


class _Sampler:
    """Leaves one token of each row, drawn by inverting the distribution function at the row's own random numbers."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self._temperature, self._top_p = sampling.temperature, sampling.top_p or 1.0
        self._step = 0
        self._numbers = torch.stack(
            [torch.rand(sampling.max_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        numbers = self._numbers[:, self._step, None].to(scores.device)
        self._step += 1
        ordered, tokens = (scores.float() / self._temperature).softmax(dim=-1).sort(dim=-1, descending=True)
        mass = ordered.cumsum(dim=-1)
        ordered[mass - ordered >= self._top_p] = 0
        mass = ordered.cumsum(dim=-1)
        drawn = torch.searchsorted(mass, numbers * mass[:, -1:], right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens.gather(1, drawn), 0.0)


def _until_stop(tokens: list[int], stops: Sequence[int]) -> list[int]:
    end = next((number for number, token in enumerate(tokens, start=1) if token in stops), len(tokens))
    return tokens[:end]


ROUNDING = 0.25
"""Log-probabilities that differ by more than this on average differ by more than rounding does, in bfloat16 too."""

_LIKELIEST = 50


@torch.inference_mode()
def is_causal(network: PreTrainedModel) -> bool:
    """Whether what a model says about a text does not depend on what comes later; BERT's does."""
    tokens = torch.tensor([_make_text(network, 16)], device=network.device)
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1) % network.config.get_text_config().vocab_size
    return _differ(network(tokens).logits[0, :-1], network(other).logits[0, :-1]) < ROUNDING


@torch.inference_mode()
def generates_from_padded_prompts(network: PreTrainedModel) -> bool:
    """Whether prompts of different lengths can be continued together, and from a prefix that they share.

    Some recurrent models cannot, and some that count positions in a way of their own.
    """
    text = _make_text(network, MIN_SAVED_TOKENS + 24)
    rows = [text[: MIN_SAVED_TOKENS + 3], text[:MIN_SAVED_TOKENS] + text[:2:-1][:20]]
    together = _first_logits(network, rows)
    alone = [_first_logits(network, [row])[0] for row in rows]
    return all(_differ(one, other) < ROUNDING for one, other in zip(together, alone, strict=True))


def _first_logits(network: PreTrainedModel, rows: list[list[int]]) -> torch.Tensor:
    """The logits of the first two new tokens: rows x 2 x vocabulary. The first token is forced to be the same."""
    forced = GenerationConfig(
        do_sample=False, max_new_tokens=2, min_new_tokens=2, pad_token_id=0, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    logits = network.generate(
        **lay_out_prompts(network, rows), generation_config=forced, logits_processor=[_choose_first]
    ).logits
    return torch.stack(logits, dim=1)


def _choose_first(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
    chosen = torch.full_like(scores, -torch.inf)
    chosen[:, 5 % scores.shape[-1]] = 0
    return chosen


def _differ(logits: torch.Tensor, others: torch.Tensor) -> float:
    """The mean difference in the logarithm of the probability of the likeliest tokens."""
    ours, theirs = logits.float().log_softmax(dim=-1), others.float().log_softmax(dim=-1)
    likeliest = ours.topk(min(_LIKELIEST, ours.shape[-1]), dim=-1).indices
    return float((ours.gather(-1, likeliest) - theirs.gather(-1, likeliest)).abs().mean(dim=-1).max())


def _make_text(network: PreTrainedModel, length: int) -> list[int]:
    vocabulary = network.config.get_text_config().vocab_size
    return [(17 + 31 * position) % vocabulary for position in range(length)]
