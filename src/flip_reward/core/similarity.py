"""How close an inferred instruction comes to the original: the interface, and the bag-of-tokens F1 of the paper."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from flip_reward.core.tokens import Normalizer, load_normalizer


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
        """Nothing is left of the instruction after normalisation, so no similarity is defined."""
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


@dataclass(frozen=True, slots=True)
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
        counts = Counter(words)
        # Every shared token is shared once; only those the original repeats can be shared more often.
        shared = len(self.vocabulary.intersection(counts))
        if not shared:
            return _NOTHING_SHARED
        for token, count in self.repeated.items():
            if (inferred_count := counts.get(token, 0)) > 1:
                shared += min(count, inferred_count) - 1
        length = len(words)
        for word in self.normalizer.ignored:
            length -= counts.get(word, 0)
        precision = shared / length
        recall = shared / self.length
        return Match((2 * precision * recall) / (precision + recall), precision, recall)
