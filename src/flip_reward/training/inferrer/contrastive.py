"""The loss that teaches an inferrer to rank: every instruction is scored after its own response and after others.

For instructions x_i and responses y_j of a group, S_ij = ln P(x_i | y_j). With equal odds for every response, Bayes'
rule gives the probability that x_i belongs to y_j. The loss is minus the logarithm of that for x_i and y_i:

    -ln ( exp S_ii / Σ_j exp S_ij )

It is the loss of contrastive predictive coding (van den Oord et al. 2018, arXiv 1807.03748), with log-likelihoods in
place of a similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from flip_reward.engines.huggingface.inference import projecting_only, score_rows
from flip_reward.engines.huggingface.text import ScoredRow
from flip_reward.errors import OptionError
from flip_reward.training.inferrer.text import TuningText

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CLOSE = 0.05
"""How much the log-probability of an instruction may differ, per token, by its position: bfloat16 is coarse."""


@dataclass(frozen=True, slots=True)
class GroupScores:
    """What a model says of a group of k texts.

    Attributes:
        instructions: S_ij, k by k, in nats: of instruction i after response j, without the token that ends a reply.
        ends: For each text, ln of the probability of the end after its instruction and its own response; k.
    """

    instructions: torch.Tensor
    ends: torch.Tensor

    @property
    def contrast(self) -> torch.Tensor:
        """The loss of the module's formula, summed over the instructions."""
        own = torch.arange(len(self.instructions), device=self.instructions.device)
        return torch.nn.functional.cross_entropy(self.instructions, own, reduction="sum")

    @property
    def likelihood(self) -> torch.Tensor:
        """The loss of plain tuning, minus ln P of every instruction and its end after its own response, summed."""
        return -(self.instructions.diagonal().sum() + self.ends.sum())

    @property
    def ranked_right(self) -> int:
        """How many instructions are likelier after their own response than after any other."""
        own = torch.arange(len(self.instructions), device=self.instructions.device)
        return int((self.instructions.argmax(dim=1) == own).sum())


def score_group(network: torch.nn.Module, texts: Sequence[TuningText], head: PreTrainedModel) -> GroupScores:
    """Score every instruction of a group after every response.

    A response is read once, with all instructions after it: each sees the response and itself, and has the positions
    that it would have alone. `head` is the same model, unwrapped.

        response j | instruction 0 | instruction 1 | ...
    """
    device = head.device
    prefixes = [text.tokens[: len(text.tokens) - text.learned] for text in texts]
    instructions = [text.tokens[-text.learned : -1] for text in texts]
    behind = [token for tokens in instructions for token in tokens]
    width = max(map(len, prefixes))
    ids = torch.zeros((len(texts), width + len(behind)), dtype=torch.long)
    places = torch.zeros_like(ids)
    seen = torch.zeros((len(texts), 1, ids.shape[1], ids.shape[1]), dtype=torch.bool)
    wanted = torch.zeros(ids.shape, dtype=torch.bool)
    seen[..., range(ids.shape[1]), range(ids.shape[1])] = (
        True  # padding sees itself, since attention to nothing is NaN
    )
    wanted[:, width - 1 :] = True
    for row, prefix in enumerate(prefixes):
        first = width - len(prefix)
        ids[row, first:] = torch.tensor([*prefix, *behind])
        places[row, first:width] = torch.arange(len(prefix))
        seen[row, 0, first:width, first:width] = torch.ones(len(prefix), len(prefix), dtype=torch.bool).tril()
        start = width
        for tokens in instructions:
            stop = start + len(tokens)
            places[row, start:stop] = torch.arange(len(prefix), len(prefix) + len(tokens))
            seen[row, 0, start:stop, first:width] = True
            seen[row, 0, start:stop, start:stop] = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
            start = stop
    wanted = wanted.to(device)
    with projecting_only(head, wanted):
        logits = network(
            input_ids=ids.to(device), attention_mask=seen.to(device), position_ids=places.to(device), use_cache=False
        ).logits
    if logits.shape[:2] == wanted.shape:
        logits = logits[wanted]  # a model whose head is not where it says
    logprobs = logits.reshape(len(texts), 1 + len(behind), -1).float().log_softmax(dim=-1)
    scores, ends = [], []
    start = 1
    for own, (text, tokens) in enumerate(zip(texts, instructions, strict=True)):
        before = [0, *range(start, start + len(tokens) - 1)]  # where each token is predicted
        scores.append(logprobs[:, before, tokens].sum(dim=1))
        ends.append(logprobs[own, start + len(tokens) - 1, text.tokens[-1]])
        start += len(tokens)
    return GroupScores(torch.stack(scores), torch.stack(ends))


def check_score_group(network: PreTrainedModel, texts: Sequence[TuningText]) -> None:
    """Refuse a model that scores a group otherwise than each text alone: without positions, masks or attention."""
    alone = score_rows(network, [ScoredRow(text.tokens[:-1], text.learned - 1) for text in texts])
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            together = score_group(network, texts, network).instructions.diagonal().tolist()
    except (RuntimeError, TypeError, ValueError) as error:
        raise OptionError(f"this model cannot be tuned by contrast: {error}") from error
    finally:
        network.train(training)
    for text, values, score in zip(texts, alone, together, strict=True):
        if abs(sum(values) - score) > _CLOSE * text.learned:
            raise OptionError(
                "this model cannot be tuned by contrast: the score of an instruction depends on others beside it",
                hint="leave `contrast` out of the recipe",
            )
