"""Texts that are nearly the same, found among tens of thousands without comparing each with each."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flip_reward.core.normalization import load_normalizer

ALIKE = 0.8
"""Texts are near when they share this part of their distinct words (Jaccard index)."""

CONTAINED = 0.8
"""Or when this part of the shorter one's runs of three words stands in the longer one."""

LEAST_CONTAINED_WORDS = 8
"""Shorter texts than this stand inside others by chance."""

_RUN = 3


@dataclass(frozen=True, slots=True)
class Words:
    """A text as the words that are compared: those of the "multilingual" normaliser.

    Attributes:
        sequence: The words in order.
        distinct: Each word once.
    """

    sequence: tuple[str, ...]
    distinct: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Words:
        """Split a text."""
        words = tuple(load_normalizer("multilingual").tokenize(text))
        return cls(words, frozenset(words))

    @property
    def runs(self) -> frozenset[tuple[str, ...]]:
        """Every three words that follow each other."""
        return frozenset(self.sequence[i : i + _RUN] for i in range(len(self.sequence) - _RUN + 1))


def are_alike(one: Words, other: Words) -> bool:
    """Whether two texts share most of their distinct words.

    Example:
        >>> are_alike(Words.of("Name three fruits, please!"), Words.of("please name three fruits"))
        True
        >>> are_alike(Words.of("Name three fruits"), Words.of("Name three trees"))
        False
    """
    sizes = sorted((len(one.distinct), len(other.distinct)))
    if sizes[0] < ALIKE * sizes[1]:
        return False
    shared = len(one.distinct & other.distinct)
    return shared >= ALIKE * (len(one.distinct) + len(other.distinct) - shared)


def stands_in(part: Words, whole: Words) -> bool:
    """Whether most of one text stands in another, word for word.

    Example:
        >>> text = "Tell me in one short sentence why the sky is blue."
        >>> stands_in(Words.of(text), Words.of("You are a poet. " + text + " Rhyme!"))
        True
    """
    if not LEAST_CONTAINED_WORDS <= len(part.sequence) <= len(whole.sequence) / CONTAINED:
        return False
    runs = part.runs
    return len(runs & whole.runs) >= CONTAINED * len(runs)


class NearIndex:
    """Finds a text that is near to another.

    Two texts that share a part t of their words share one of the rarest 1 - t of either's (prefix filtering,
    Chaudhuri et al. 2006). So only texts that share a rare word are compared. None that are alike are missed.

    Args:
        corpus: All texts, those to be looked up as well. Words that are in few of them are rare.

    Example:
        >>> texts = [Words.of("Name three fruits, please"), Words.of("Why is the sky blue?")]
        >>> index = NearIndex(texts)
        >>> index.add(texts[0])
        >>> index.has_near(Words.of("please, name three fruits")), index.has_near(texts[1])
        (True, False)
    """

    def __init__(self, corpus: Iterable[Words]) -> None:
        self._counts: Counter[str] = Counter()
        for words in corpus:
            self._counts.update(words.distinct)
        self._texts: list[Words] = []
        self._by_word: dict[str, list[int]] = defaultdict(list)
        self._by_rare_word: dict[str, list[int]] = defaultdict(list)

    def add(self, words: Words) -> None:
        """Put a text into the index."""
        number = len(self._texts)
        self._texts.append(words)
        for word in words.distinct:
            self._by_word[word].append(number)
        for word in self._rarest(words):
            self._by_rare_word[word].append(number)

    def has_near(self, words: Words, *, contained: bool = True) -> bool:
        """Whether the index has a text near to this one.

        Args:
            words: What to look up.
            contained: Texts also count as near when one of them stands in the other.
        """
        candidates = {number for word in self._rarest(words) for number in self._by_word.get(word, ())}
        for number in candidates:
            if are_alike(words, self._texts[number]) or (contained and stands_in(words, self._texts[number])):
                return True
        if not contained:
            return False
        candidates = {number for word in words.distinct for number in self._by_rare_word.get(word, ())}
        return any(stands_in(self._texts[number], words) for number in candidates)

    def _rarest(self, words: Words) -> Sequence[str]:
        """Words one of which every near text has."""
        ordered = sorted(words.distinct, key=lambda word: (self._counts[word], word))
        least_shared = math.floor(min(ALIKE, CONTAINED) * len(ordered))
        return ordered[: len(ordered) - least_shared + 1]
