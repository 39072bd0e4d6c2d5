"""The order of texts: shuffled with little padding, or in groups to contrast.

`order_texts` puts texts of similar length together. `order_groups` puts texts together that have similar responses
and different instructions.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from flip_reward.errors import DataError
from flip_reward.training.inferrer.text import TuningText

_BATCHES_SORTED_TOGETHER = 32


def order_texts(lengths: Sequence[int], *, batch_rows: int, epochs: float, seed: int) -> list[int]:
    """Return the positions of texts over all epochs (the last may be a fraction), to be cut into batches."""
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


SAME_INSTRUCTION = 0.8
"""Instructions that share this part of their distinct tokens (Jaccard index) count as the same."""

_TELLING_TOKENS = 32
"""How many of a response's rarest tokens are compared."""


def group_alike(texts: Sequence[TuningText], size: int, *, seed: int) -> list[list[int]]:
    """Put texts into groups, as positions, whose responses are alike and whose instructions differ.

    In a group every response is a hard negative for the instructions of the others. Responses are alike by the tokens
    they share, each weighted by its inverse document frequency; tokens that all have, like those of the prompt, count
    nothing. A text is in one group at most; leftover texts are in none.
    """
    alike = _AlikeIndex([frozenset(text.tokens[: len(text.tokens) - text.learned]) for text in texts])
    instructions = [frozenset(text.tokens[-text.learned : -1]) for text in texts]
    order = list(range(len(texts)))
    random.Random(f"groups {seed}").shuffle(order)  # noqa: S311 - not for secrets
    groups: list[list[int]] = []
    for first in order:
        if first not in alike:
            continue
        group = [first]
        for other in alike.nearest(first):
            if all(_differ(instructions[other], instructions[member]) for member in group):
                group.append(other)
            if len(group) == size:
                groups.append(group)
                break
        for member in group if len(group) == size else [first]:
            alike.discard(member)
    return groups


def order_groups(texts: Sequence[TuningText], size: int, *, epochs: float, seed: int) -> list[int]:
    """Return the positions of texts over all epochs, to be cut into the groups of `group_alike`."""
    groups: list[list[int]] = []
    wanted, epoch = 1, 0
    while len(groups) < wanted:
        made = group_alike(texts, size, seed=seed + epoch)
        if not made:
            raise DataError(
                f"no response has {size - 1} others like it, with another instruction",
                hint="take more rows, or a smaller contrast.alike",
            )
        if epoch == 0:
            wanted = max(1, round(len(made) * epochs))
        groups += made
        epoch += 1
    return [number for group in groups[:wanted] for number in group]


class _AlikeIndex:
    """Finds the responses that share the most telling tokens with one of them."""

    def __init__(self, responses: Sequence[frozenset[int]]) -> None:
        counts = Counter(token for tokens in responses for token in tokens)
        self._weights = {token: math.log(len(responses) / count) for token, count in counts.items()}
        self._telling = [
            sorted(
                (token for token in tokens if self._weights[token] > 0),
                key=lambda token: (-self._weights[token], token),
            )[:_TELLING_TOKENS]
            for tokens in responses
        ]
        self._having: defaultdict[int, set[int]] = defaultdict(set)
        for number, tokens in enumerate(self._telling):
            for token in tokens:
                self._having[token].add(number)
        self._left = set(range(len(responses)))

    def __contains__(self, number: int) -> bool:
        return number in self._left

    def discard(self, number: int) -> None:
        """Remove a response."""
        self._left.discard(number)
        for token in self._telling[number]:
            self._having[token].discard(number)

    def nearest(self, number: int) -> list[int]:
        """Return the responses that share tokens with this one, the most alike first."""
        shared: defaultdict[int, float] = defaultdict(float)
        for token in self._telling[number]:
            for other in self._having[token]:
                shared[other] += self._weights[token]
        shared.pop(number, None)
        return sorted(shared, key=lambda other: (-shared[other] / math.sqrt(len(self._telling[other])), other))


def _differ(one: frozenset[int], other: frozenset[int]) -> bool:
    return len(one & other) < SAME_INSTRUCTION * len(one | other)
