"""Finds near duplicates among tens of thousands of texts, exactly, without comparing all pairs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from flip_reward.core.tokens import load_normalizer

ALIKE = 0.8
"""Texts are near when they share this part of their distinct words (Jaccard index)."""

CONTAINED = 0.8
"""Or when the longer one has this part of the shorter one's runs of three words."""

LEAST_CONTAINED_WORDS = 8
"""Shorter texts are inside others by chance."""

_RUN = 3
Run: TypeAlias = tuple[str, ...]
"""Words that follow each other."""

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Words:
    """A text as the words of the "multilingual" normaliser: in order, and each once."""

    sequence: tuple[str, ...]
    distinct: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Words:
        """Split a text."""
        words = tuple(load_normalizer("multilingual").tokenize(text))
        return cls(words, frozenset(words))

    @property
    def runs(self) -> frozenset[Run]:
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
    """Whether another text has most of this one, word for word.

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

    Of two texts that share a part t of their words, each has one of any 1 - t of the other's (prefix filtering,
    Chaudhuri et al. 2006), and the same holds of runs. So only texts that share one of the rarest are compared, and
    none that is near is missed. With `contained`, a text is also near to one that contains it.
    """

    def __init__(self, corpus: Iterable[Words], *, contained: bool = True) -> None:
        self._contained = contained
        self._counts: Counter[str] = Counter()
        for words in corpus:
            self._counts.update(words.distinct)
        self._texts: list[Words] = []
        self._by_word: dict[str, list[int]] = defaultdict(list)
        self._by_run: dict[Run, list[int]] = defaultdict(list)
        self._by_rare_run: dict[Run, list[int]] = defaultdict(list)

    def add(self, words: Words) -> None:
        """Add a text."""
        number = len(self._texts)
        self._texts.append(words)
        for word in words.distinct:
            self._by_word[word].append(number)
        if self._contained:
            for run in words.runs:
                self._by_run[run].append(number)
            for run in self._rarest_runs(words):
                self._by_rare_run[run].append(number)

    def has_near(self, words: Words) -> bool:
        """Whether the index has a text near to this one."""
        if any(are_alike(words, text) for text in self._find(self._by_word, self._rarest_words(words))):
            return True
        if not self._contained:
            return False
        around = self._find(self._by_run, self._rarest_runs(words))
        inside = self._find(self._by_rare_run, words.runs)
        return any(stands_in(words, text) for text in around) or any(stands_in(text, words) for text in inside)

    def _find(self, index: Mapping[_Key, Sequence[int]], keys: Iterable[_Key]) -> Iterator[Words]:
        for number in {number for key in keys for number in index.get(key, ())}:
            yield self._texts[number]

    def _rarest_words(self, words: Words) -> Sequence[str]:
        """Words; every similar text has at least one of them."""
        return _first_part(sorted(words.distinct, key=lambda word: (self._counts[word], word)), ALIKE)

    def _rarest_runs(self, words: Words) -> Sequence[Run]:
        """Runs; every text that contains this one has at least one of them."""
        ordered = sorted(words.runs, key=lambda run: (min(self._counts[word] for word in run), run))
        return _first_part(ordered, CONTAINED)


def _first_part(ordered: Sequence[_Key], shared: float) -> Sequence[_Key]:
    """The first of them, as many as it takes for any share `shared` of all to have one of them."""
    return ordered[: len(ordered) - math.floor(shared * len(ordered)) + 1]
