"""How close an inferred instruction comes to the original: the interface, and F1 over bags of tokens.

`TokenF1` is the paper's, where each token counts the same; `IdfF1` has rare ones count more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from operator import mul
from typing import Protocol

from flip_reward.core.idf.table import WordTable, load_shipped_table
from flip_reward.core.tokens import NORMALIZERS, Normalizer, load_normalizer


@dataclass(frozen=True, slots=True)
class Match:
    """How close two instructions are."""

    value: float
    precision: float | None = None
    """Share of the inferred instruction's tokens found in the original, where the measure has one."""
    recall: float | None = None
    """Share of the original instruction's tokens found in the inferred one, where the measure has one."""


class Reference(Protocol):
    """An original instruction, prepared once for all the responses of its group."""

    @property
    def empty(self) -> bool:
        """Nothing that could be compared is left of the instruction, so no similarity is defined."""
        ...

    def compare(self, inferred: str) -> Match:
        """Compare an inferred instruction with the original."""
        ...


class Similarity(Protocol):
    """A way to compare instructions."""

    @property
    def name(self) -> str:
        """The name it is chosen by, which records and manifests show."""
        ...

    def prepare(self, instruction: str) -> Reference:
        """Prepare the original instruction."""
        ...


def name_similarity(measure: str, normalizer: Normalizer) -> str:
    """Name a measure over tokens: the measure alone over "english" tokens, else both, as in "f1:multilingual"."""
    return measure if normalizer.name == "english" else f"{measure}:{normalizer.name}"


def find_normalizer(similarity: str) -> str:
    """Return the normaliser in the name of a similarity; "english" where it names none, or has tokens of its own.

    Example:
        >>> find_normalizer("f1-idf:multilingual@1a2b3c4d"), find_normalizer("embedding:some/model")
        ('multilingual', 'english')
    """
    named = similarity.partition(":")[2].partition("@")[0]
    return named if named in NORMALIZERS else "english"


class TokenF1:
    """The reward of the paper: F1 over bags of tokens (arXiv 2602.13551, after SQuAD, Rajpurkar et al. 2016).

    A token is shared as often as it occurs on both sides. Precision is the share of the inferred instruction's tokens
    that are shared, recall the share of the original's, F1 their harmonic mean; each is 0 to 1, and 0 when nothing is
    shared. Over "english" tokens every result equals the authors' bit for bit.

    Example:
        >>> TokenF1().prepare("Define 'soil degradation'.").compare("What is soil degradation?")
        Match(value=0.5714285714285715, precision=0.5, recall=0.6666666666666666)
    """

    def __init__(self, normalizer: str = "english") -> None:
        self._normalizer = load_normalizer(normalizer)

    @property
    def name(self) -> str:
        """Either "f1" or "f1:multilingual"."""
        return name_similarity("f1", self._normalizer)

    def prepare(self, instruction: str) -> TokenBag:
        """Count the tokens of the original instruction, once for all the responses of its group."""
        counts = Counter(self._normalizer.split(instruction))
        for word in self._normalizer.ignored:
            counts.pop(word, None)
        length, repeated = counts.total(), {}
        if length > len(counts):
            repeated = {token: count for token, count in counts.items() if count > 1}
        return TokenBag(self._normalizer, length, frozenset(counts), repeated)


_NOTHING_SHARED = Match(0.0, 0.0, 0.0)


@dataclass(slots=True)
class TokenBag:
    """The tokens of an original instruction, counted."""

    normalizer: Normalizer
    length: int
    vocabulary: frozenset[str]
    repeated: dict[str, int]
    """Token -> occurrences, for those that occur more than once."""

    @property
    def empty(self) -> bool:
        """The instruction has no tokens: it is blank, or punctuation and articles only."""
        return not self.length

    def compare(self, inferred: str) -> Match:
        """Compare the tokens of an inferred instruction with these."""
        words = self.normalizer.split(inferred)
        # Every shared token is shared once; only those the original repeats can be shared more often.
        shared = len(self.vocabulary.intersection(words))
        if not shared:
            return _NOTHING_SHARED
        if self.repeated:
            counts = Counter(words)
            for token, count in self.repeated.items():
                if (inferred_count := counts.get(token, 0)) > 1:
                    shared += min(count, inferred_count) - 1
        length = len(words) - sum(map(words.count, self.normalizer.ignored))
        precision = shared / length
        recall = shared / self.length
        return Match((2 * precision * recall) / (precision + recall), precision, recall)


class IdfF1:
    """F1 over bags of tokens, each of which counts by its inverse document frequency (Spärck Jones 1972).

    A token in n of N instructions counts ln((N + 1) / (n + 1)) instead of 1, one in none of them as the rarest: so
    "haiku" counts more than "write", and a word in all of them nothing. An instruction of such words alone is empty.
    If all weights are equal, every result equals that of `TokenF1`.

    Args:
        words: What is counted; by default the package's table for English.
        name: What records and manifests show; by default the measure and the normaliser, as "f1-idf:multilingual".

    Example:
        >>> reference = IdfF1().prepare("Write a haiku about frogs.")
        >>> f"{reference.compare('Write an essay about it.').value:.2f}, {reference.compare('A haiku.').value:.2f}"
        '0.31, 0.47'
    """

    def __init__(self, words: WordTable | None = None, *, name: str | None = None) -> None:
        words = words or load_shipped_table("english")
        self._normalizer = words.normalizer
        weights = {count: words.weigh(count) for count in {0, *words.counts.values()}}
        self._weights = {word: weights[count] for word, count in words.counts.items()}
        self._weights.update(dict.fromkeys(self._normalizer.ignored, 0))
        self._unknown = weights[0]
        self._name = name or name_similarity("f1-idf", self._normalizer)

    @property
    def name(self) -> str:
        """Such as "f1-idf"; one with a table of one's own also names that."""
        return self._name

    def prepare(self, instruction: str) -> WeightedBag:
        """Weigh the tokens of the original instruction, once for all the responses of its group."""
        counts = Counter(self._normalizer.split(instruction))
        own = {token: self._weights.get(token, self._unknown) for token in counts}
        weight = sum(own[token] * count for token, count in counts.items())
        repeated = {token: count for token, count in counts.items() if count > 1}
        return WeightedBag(self._normalizer, self._weights, self._unknown, weight, frozenset(counts), own, repeated)


@dataclass(frozen=True, slots=True)
class WeightedBag:
    """The tokens of an original instruction, weighed and counted."""

    normalizer: Normalizer
    weights: Mapping[str, int]
    unknown: int
    """The weight of every other token."""
    weight: int
    """Of all of the instruction's tokens. Whole numbers, so that no sum depends on its order."""
    vocabulary: frozenset[str]
    own_weights: Mapping[str, int]
    repeated: Mapping[str, int]
    """Token -> occurrences, for those that occur more than once."""

    @property
    def empty(self) -> bool:
        """The instruction has no token with a weight."""
        return not self.weight

    def compare(self, inferred: str) -> Match:
        """Compare the tokens of an inferred instruction with these."""
        counts = Counter(self.normalizer.split(inferred))
        shared = sum(map(self.own_weights.__getitem__, self.vocabulary.intersection(counts)))
        if not shared:
            return _NOTHING_SHARED
        for token, count in self.repeated.items():
            if (inferred_count := counts.get(token, 0)) > 1:
                shared += self.own_weights[token] * (min(count, inferred_count) - 1)
        weights = map(self.weights.get, counts, repeat(self.unknown))
        precision = shared / sum(map(mul, weights, counts.values()))
        recall = shared / self.weight
        return Match((2 * precision * recall) / (precision + recall), precision, recall)
