"""What a reward model computes for a batch of texts: the numbers of its head.

Decoders are read at the last token of a row, which transformers takes to be the last one that is not the padding
token. So rows are padded at the right with the token that the model's configuration names, or where it names none,
with one that no row holds: without that, rows of different lengths would be read at their padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from flip_reward.engines.huggingface.text import PairRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUNDING = 0.1
"""Numbers of a head that differ by more than this share differ by more than rounding does, in bfloat16 too."""


@torch.inference_mode()
def classify_rows(network: PreTrainedModel, rows: Sequence[PairRow]) -> list[list[float]]:
    """Return the numbers of the head for each row; the rows have token types all or none."""
    shape = (len(rows), max(len(row.tokens) for row in rows))
    with _padding(network, rows) as pad:
        tokens = torch.full(shape, pad, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        types = torch.zeros(shape, dtype=torch.long)
        for number, row in enumerate(rows):
            length = len(row.tokens)
            tokens[number, :length] = torch.tensor(row.tokens)
            mask[number, :length] = 1
            if row.types is not None:
                types[number, :length] = torch.tensor(row.types)
        given = {"input_ids": tokens, "attention_mask": mask}
        if rows[0].types is not None:
            given["token_type_ids"] = types
        logits = network(**{name: tensor.to(network.device) for name, tensor in given.items()}).logits
    numbers: list[list[float]] = logits.float().tolist()
    return numbers


@contextmanager
def _padding(network: PreTrainedModel, rows: Sequence[PairRow]) -> Iterator[int]:
    """Give the token to pad with. Where the model has none, it has one while the block runs."""
    config = network.config.get_text_config()
    named = config.pad_token_id
    if isinstance(named, int) and 0 <= named < config.vocab_size:
        yield named
        return
    used = {token for row in rows for token in row.tokens}
    free = next(token for token in range(config.vocab_size + 1) if token not in used)
    config.pad_token_id = free
    try:
        yield free
    finally:
        config.pad_token_id = named


def reads_padded_rows(network: PreTrainedModel) -> bool:
    """Whether a model says the same of a row alone and beside a longer one; not every architecture does."""
    config = network.config.get_text_config()
    vocabulary = config.vocab_size
    texts = [[(17 + 31 * place + length) % vocabulary for place in range(length)] for length in (12, 15, 18)]
    rows = [PairRow([token for token in text if token != config.pad_token_id]) for text in texts]
    together = classify_rows(network, rows)
    alone = [classify_rows(network, [row])[0] for row in rows]
    return all(
        abs(one - other) <= ROUNDING * max(1.0, abs(other))
        for row, single in zip(together, alone, strict=True)
        for one, other in zip(row, single, strict=True)
    )
