"""What one text has that another lacks."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise

from flip_reward.core.tokens import UNSPACED


def find_new_words(text: str, other: str) -> tuple[int, ...]:
    """Find the words of a text that do not stand in another one in the same order: what was put in.

    In scripts without spaces a word is one character. It takes linear time, and so may mark more than has to be.
    Words with nothing but white space between them are one stretch.

    Returns:
        Starts and ends in turn, in characters, ascending.

    Example:
        >>> text = "Name a fruit. Pears are very sweet."
        >>> new = find_new_words(text, "Pears are sweet.")
        >>> [text[start:end] for start, end in zip(new[::2], new[1::2])]
        ['Name a fruit.', 'very']
    """
    bounds: list[int] = []
    for word, known in _align(text, other):
        if known:
            continue
        if bounds and not text[bounds[-1] : word.start()].strip():
            bounds[-1] = word.end()
        else:
            bounds += word.span()
    return tuple(bounds)


_WORD = re.compile(rf"{UNSPACED.pattern}|(?:(?!{UNSPACED.pattern})[^\W_])+|[^\w\s]|_")


def _align(text: str, other: str) -> Iterator[tuple[re.Match[str], bool]]:
    """Yield the words of a text, each with whether it follows, in the other one, what was found there so far.

    A word that is not the next one is looked for further on together with the one after it.
    """
    words = list(_WORD.finditer(text))
    ours, theirs = [word[0] for word in words], _WORD.findall(other)
    most = min(len(ours), len(theirs))
    start = next((place for place in range(most) if ours[place] != theirs[place]), most)
    end = next((place for place in range(most - start) if ours[-1 - place] != theirs[-1 - place]), most - start)
    pairs: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(pairwise(theirs)):
        pairs.setdefault(pair, []).append(place)
    expected, missed, stop = 0, 0, len(theirs) - end
    for place, word in enumerate(words):
        if place >= len(words) - end:
            yield word, True
            continue
        found = None
        for candidate in (expected, expected + missed):  # what comes next, or after as many words as were replaced
            if candidate < stop and ours[place] == theirs[candidate]:
                found = candidate
                break
        else:
            places = pairs.get((ours[place], ours[place + 1]), []) if place + 1 < len(ours) else []
            further = bisect_left(places, expected)
            if further < len(places) and places[further] < stop:
                found = places[further]
        yield word, found is not None
        expected, missed = (expected, missed + 1) if found is None else (found + 1, 0)
