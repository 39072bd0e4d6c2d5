"""The order in which texts are seen: shuffled, and those of like length together, so that little is padded."""

from __future__ import annotations

import random
from collections.abc import Sequence

_BATCHES_SORTED_TOGETHER = 32


def order_texts(lengths: Sequence[int], *, batch_rows: int, epochs: float, seed: int) -> list[int]:
    """Return which text is seen when, over all epochs. Cut into batches of `batch_rows`, it is what is learned.

    Args:
        lengths: The tokens of each text.
        batch_rows: So many texts make a batch.
        epochs: How often each is seen. A fraction is a part of the last epoch.
        seed: Another one makes another order.

    Example:
        >>> order = order_texts([3, 9, 3, 9], batch_rows=2, epochs=1.5, seed=0)
        >>> sorted(order[:4]), len(order)
        ([0, 1, 2, 3], 6)
        >>> {frozenset(order[:2]), frozenset(order[2:4])} == {frozenset({0, 2}), frozenset({1, 3})}
        True
    """
    total = max(1, round(len(lengths) * epochs))
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        chance = random.Random(f"{seed} epoch {epoch}")  # noqa: S311 - not for secrets
        order += _order_epoch(lengths, batch_rows, chance)
        epoch += 1
    return order[:total]


def _order_epoch(lengths: Sequence[int], batch_rows: int, chance: random.Random) -> list[int]:
    places = list(range(len(lengths)))
    chance.shuffle(places)
    step = batch_rows * _BATCHES_SORTED_TOGETHER
    order: list[int] = []
    for start in range(0, len(places), step):
        alike = sorted(places[start : start + step], key=lengths.__getitem__)
        batches = [alike[first : first + batch_rows] for first in range(0, len(alike), batch_rows)]
        last = [batches.pop()] if len(batches[-1]) < batch_rows else []
        chance.shuffle(batches)
        order += [place for batch in [*batches, *last] for place in batch]
    return order
