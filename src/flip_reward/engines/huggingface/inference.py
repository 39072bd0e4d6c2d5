"""What a Hugging Face model computes for a batch: log-probabilities of given tokens, and new tokens.

What rows of a batch share is read once (`prefixes`). Behind it rows are laid out as

    shared | rest of row 0 | padding        to score: what comes later changes nothing before it
    shared | padding | rest of row 0        to generate: every row goes on at the same place, and padding is masked

Whether a model is causal and can generate like this is tried out at loading: its code does not say.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from transformers import GenerationConfig, LogitsProcessorList

from flip_reward.engines.base import Sampling
from flip_reward.engines.huggingface.prefixes import MIN_SAVED_TOKENS, read_prefixes
from flip_reward.engines.huggingface.text import ScoredRow
from flip_reward.errors import RequestRefusedError

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel


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
def score_rows(network: PreTrainedModel, rows: Sequence[ScoredRow], *, pads: bool = True) -> list[list[float]]:
    """Return the natural logarithm of the probability of each scored token.

    The vocabulary projection, for small models most of the work, is computed at the scored positions only. `pads`
    says that the model goes on behind padding.
    """
    fed = [row.tokens[:-1] for row in rows]  # nothing is predicted from the last token
    logits = _compute_logits(network, fed, [row.scored for row in rows], pads=pads)
    targets = torch.tensor([token for row in rows for token in row.tokens[-row.scored :]], device=network.device)
    values = _gather_logprobs(logits, targets)
    return [part.tolist() for part in torch.split(values, [row.scored for row in rows])]


@torch.inference_mode()
def rank_next_tokens(
    network: PreTrainedModel, rows: Sequence[Sequence[int]], count: int, *, pads: bool = True
) -> list[list[tuple[int, float]]]:
    """Return the likeliest tokens after each row, the likeliest first, with the logarithm of their probability."""
    with _projecting_exactly(network):
        logits = _compute_logits(network, rows, [1] * len(rows), pads=pads).float()
    values, tokens = logits.log_softmax(dim=-1).topk(min(count, logits.shape[-1]), dim=-1)
    return [
        list(zip(of_row, their_values, strict=True))
        for of_row, their_values in zip(tokens.tolist(), values.tolist(), strict=True)
    ]


def _compute_logits(
    network: PreTrainedModel, rows: Sequence[Sequence[int]], predicting: Sequence[int], *, pads: bool
) -> torch.Tensor:
    """Return what is predicted from the last tokens of every row, as many as `predicting` says, one after another."""
    longest = [len(row) - count for row, count in zip(rows, predicting, strict=True)]
    read = read_prefixes(network, rows, longest, worth=0.5 if network.device.type == "cuda" else 0, pads=pads)
    done = torch.tensor(read.lengths)[:, None]
    width = max(len(tokens) - length for tokens, length in zip(rows, read.lengths, strict=True))
    rest = torch.zeros((len(rows), width), dtype=torch.long)
    wanted = torch.zeros(rest.shape, dtype=torch.bool)
    for number, (tokens, length, count) in enumerate(zip(rows, read.lengths, predicting, strict=True)):
        rest[number, : len(tokens) - length] = torch.tensor(tokens[length:])
        wanted[number, len(tokens) - length - count : len(tokens) - length] = True
    given = {"input_ids": rest}
    if read.padded:
        places = torch.arange(read.width + width)
        given["attention_mask"] = ((places < done) | (places >= read.width)).long()
        if "position_ids" in inspect.signature(network.forward).parameters:
            given["position_ids"] = done + torch.arange(width)
    given = {name: tensor.to(network.device) for name, tensor in given.items()}
    wanted = wanted.to(network.device)
    with projecting_only(network, wanted):
        logits: torch.Tensor = network(**given, use_cache=bool(read.cache), **read.cache).logits
    # Otherwise it is a model whose head is not where it says.
    return logits[0] if logits.shape[:2] == (1, sum(predicting)) else logits[wanted]


@torch.inference_mode()
def generate_rows(
    network: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    stops: Sequence[int],
    *,
    pads: bool = True,
) -> list[list[int]]:
    """Return the new tokens of each row, with the stop token where there is one.

    What a row draws depends on its own seed alone, not on the rows beside it.
    """
    processors = LogitsProcessorList([_check_finite])
    if sampling.temperature > 0:
        processors.append(_Sampler(sampling, seeds))
    prompts = lay_out_prompts(network, rows, pads=pads)
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
    return [_until_stop(new, stops) for new in output[:, prompts["input_ids"].shape[1] :].tolist()]


def lay_out_prompts(
    network: PreTrainedModel, rows: Sequence[Sequence[int]], *, pads: bool = True
) -> dict[str, torch.Tensor | DynamicCache]:
    """Return prompts as `generate` takes them; what they share is read already."""
    read = read_prefixes(network, rows, [len(tokens) - 1 for tokens in rows], pads=pads)
    width = read.width + max(len(tokens) - length for tokens, length in zip(rows, read.lengths, strict=True))
    whole = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for number, (tokens, length) in enumerate(zip(rows, read.lengths, strict=True)):
        mask[number, :length] = True
        mask[number, width - len(tokens) + length :] = True
        whole[number, mask[number]] = torch.tensor(tokens)
    return {
        "input_ids": whole.to(network.device),
        "attention_mask": mask.long().to(network.device),
        **read.cache,
    }


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
