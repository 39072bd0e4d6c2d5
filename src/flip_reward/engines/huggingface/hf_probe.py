"""What a Hugging Face model can do, found out by trying it at loading: its code does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from flip_reward.engines.huggingface.inference import WORTH_SHARING_TOKENS, lay_out_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUNDING = 0.25
"""Log-probabilities that differ by more than this on average differ by more than rounding, in bfloat16 too."""

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
    """Whether prompts of unlike length can be continued together, and from what they begin with alike.

    Not so for some recurrent models, and for some that count positions in a way of their own.
    """
    text = _make_text(network, WORTH_SHARING_TOKENS + 24)
    rows = [text[: WORTH_SHARING_TOKENS + 3], text[:WORTH_SHARING_TOKENS] + text[:2:-1][:20]]
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
