"""The most similar other instruction of each, by the rare words that both have."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from flip_reward.core.tokens import load_normalizer

_MOST_COMMON = 500
"""A word of more instructions than this finds no neighbours, so that time grows with the instructions alone."""
_MOST_CHARACTERS = 20_000
"""Of an instruction, from its beginning."""


def find_nearest(instructions: Sequence[str]) -> list[int | None]:
    """Return for each instruction the place of the most similar other one; None where it shares no word with any.

    Similarity is the cosine of bags of words that are weighted by idf. Of equally similar ones the first is taken.

    Example:
        >>> find_nearest(["Name a fruit.", "Write a poem about rain.", "Name a red fruit.", "写一首诗"])
        [2, 0, 0, None]
    """
    tokenize = load_normalizer("multilingual").tokenize
    bags = [Counter(tokenize(text[:_MOST_CHARACTERS])) for text in instructions]
    places: dict[str, list[int]] = defaultdict(list)
    for place, bag in enumerate(bags):
        for word in bag:
            places[word].append(place)
    weights = {word: math.log(1 + len(bags) / len(found)) for word, found in places.items()}
    lengths = [
        math.sqrt(math.fsum((count * weights[word]) ** 2 for word, count in bag.items())) or 1.0 for bag in bags
    ]
    return [_find_nearest(place, bag, bags, places, weights, lengths) for place, bag in enumerate(bags)]


def _find_nearest(
    place: int,
    bag: Counter[str],
    bags: Sequence[Counter[str]],
    places: dict[str, list[int]],
    weights: dict[str, float],
    lengths: Sequence[float],
) -> int | None:
    shared: dict[int, float] = defaultdict(float)
    for word, count in bag.items():
        if len(places[word]) <= _MOST_COMMON:
            for other in places[word]:
                shared[other] += count * bags[other][word] * weights[word] ** 2
    shared.pop(place, None)
    return max(shared, key=lambda other: (shared[other] / lengths[other], -other), default=None)
