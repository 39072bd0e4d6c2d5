"""What rows of a batch begin with is read once: what all share, and what some share, as samples of one prompt do.

The cache has it for every row as

    shared by all | shared by some | padding
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_SAVED_TOKENS = 64
"""What rows share is read by itself where that saves at least this many tokens, padding included."""


@dataclass(frozen=True, slots=True)
class ReadPrefixes:
    """What was read of rows before the rest of them."""

    lengths: Sequence[int]
    """How many tokens of each row."""
    width: int = 0
    """How many places each row has in the cache; the last ones are padding where it has fewer tokens."""
    cache: Mapping[str, DynamicCache] = field(default_factory=dict)
    """By the name of its argument; empty where nothing was read."""

    @property
    def padded(self) -> bool:
        """Whether there is padding in the cache."""
        return any(length < self.width for length in self.lengths)


@dataclass(slots=True)
class Head:
    """What some rows begin with."""

    rows: list[int]
    length: int


def read_prefixes(
    network: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    longest: Sequence[int],
    *,
    worth: float = 0,
    pads: bool = True,
) -> ReadPrefixes:
    """Read what rows share, where that saves work and the cache has one entry a token.

    Args:
        network: The model.
        rows: The tokens.
        longest: How many tokens of each row may be read now.
        worth: The least share of all tokens that is saved: GPUs read behind a cache with a slower attention than
            without one.
        pads: The model goes on behind padding.
    """
    least = max(MIN_SAVED_TOKENS, worth * sum(map(len, rows)))
    shared = min(count_shared(rows), *longest)
    if shared * (len(rows) - 1) < least:
        shared = 0
    heads = find_heads(rows, longest, shared)
    if _count_saved(rows, heads, shared) < least or not (pads or len({head.length for head in heads}) == 1):
        heads = []
    nothing = ReadPrefixes([0] * len(rows))
    name = _cache_argument(network)
    if not (shared or heads) or name is None:
        return nothing
    cache = DynamicCache(config=network.config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return nothing
    if shared:
        _read(network, [rows[0][:shared]], {name: cache})
        cache.batch_repeat_interleave(len(heads) or len(rows))
    if not heads:
        return ReadPrefixes([shared] * len(rows), shared, {name: cache})
    _read(network, [rows[head.rows[0]][shared : head.length] for head in heads], {name: cache})
    head_of = {row: number for number, head in enumerate(heads) for row in head.rows}
    order = [head_of[row] for row in range(len(rows))]
    cache.batch_select_indices(torch.tensor(order, device=network.device))
    lengths = [heads[number].length for number in order]
    return ReadPrefixes(lengths, max(lengths), {name: cache})


def count_shared(rows: Sequence[Sequence[int]]) -> int:
    """Count the tokens that all rows begin with."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False)))


def find_heads(rows: Sequence[Sequence[int]], longest: Sequence[int], shared: int) -> list[Head]:
    """Put rows together that share at least half of what may be read of each, beyond what all share."""
    heads: list[Head] = []
    for number in sorted(range(len(rows)), key=lambda number: list(rows[number])):
        if heads:
            head = heads[-1]
            length = min(count_shared([rows[head.rows[-1]], rows[number]]), head.length, longest[number])
            if 2 * (length - shared) >= max(longest[row] - shared for row in (*head.rows, number)):
                head.rows.append(number)
                head.length = length
                continue
        heads.append(Head([number], longest[number]))
    return heads


def _count_saved(rows: Sequence[Sequence[int]], heads: Sequence[Head], shared: int) -> int:
    """Count the tokens, padding included, that need not be read where heads are read first."""
    widest = max(head.length for head in heads) - shared
    rest = max(len(rows[row]) - head.length for head in heads for row in head.rows)
    return len(rows) * (max(map(len, rows)) - shared - rest) - len(heads) * widest


def _cache_argument(network: PreTrainedModel) -> str | None:
    """The argument that takes a model's cache: transformers has renamed it in 5.24, and warns of the former name."""
    taken = inspect.signature(network.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in taken), None)


def _read(network: PreTrainedModel, texts: Sequence[Sequence[int]], cache: Mapping[str, DynamicCache]) -> None:
    """Put texts into a cache, padded at their end: what comes later changes nothing before it."""
    ids = torch.zeros((len(texts), max(map(len, texts))), dtype=torch.long)
    for number, tokens in enumerate(texts):
        ids[number, : len(tokens)] = torch.tensor(tokens)
    network(input_ids=ids.to(network.device), use_cache=True, logits_to_keep=1, **cache)
