"""What of a benchmark's items is the same for every reward: which share a prompt, and how long the answers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import TypeAlias

from flip_reward.core.conversation import Message
from flip_reward.core.response import visible_answer
from flip_reward.core.score import Outcome
from flip_reward.evaluation.benchmarks.base import BenchmarkItem

Read: TypeAlias = Callable[[str], str | Outcome]


@dataclass(frozen=True, slots=True)
class ItemLayout:
    """What is computed once for all rewards of a benchmark that read responses in the same way."""

    clusters: tuple[int, ...]
    """A number for each item; items with the same conversation have the same."""
    lengths: tuple[tuple[int, ...], ...]
    """For each item, the characters of its visible answers; empty where one has none, so that nothing is longest."""

    @classmethod
    def of(cls, items: Sequence[BenchmarkItem], read: Read = visible_answer) -> ItemLayout:
        """Look at the items; `read` finds the visible answer of a response."""
        found: dict[tuple[Message, ...], int] = {}
        clusters = [found.setdefault(item.group.messages, len(found)) for item in items]
        return cls(tuple(clusters), tuple(_measure_lengths(item, read) for item in items))


def _measure_lengths(item: BenchmarkItem, read: Read) -> tuple[int, ...]:
    answers = [read(response) for response in item.group.responses]
    lengths = [len(answer) for answer in answers if not isinstance(answer, Outcome)]
    return tuple(lengths) if len(lengths) == len(answers) else ()


def grade_by_length(
    item: BenchmarkItem, lengths: Sequence[int], rewards: Sequence[float] | None
) -> tuple[float, float]:
    """Return the share of right pairs where the better response is longer, and where it is shorter.

    A tie is half right, and so is each pair of an unscored item. NaN where an item has no such pair.

    Example:
        >>> item = BenchmarkItem.of("1", "all", "Name a fruit.", ["Pear."], ["Bread.", "Car."])
        >>> grade_by_length(item, (5, 6, 4), (0.9, 0.1, 0.9))
        (0.5, 1.0)
    """
    longer: list[float] = []
    shorter: list[float] = []
    good = [index for index, chosen in enumerate(item.chosen) if chosen]
    bad = [index for index, chosen in enumerate(item.chosen) if not chosen]
    for one in good if lengths else ():
        for other in bad:
            won = 0.5 if rewards is None else _compare(rewards[one], rewards[other])
            if lengths[one] != lengths[other]:
                (longer if lengths[one] > lengths[other] else shorter).append(won)
    return _mean(longer), _mean(shorter)


def _compare(better: float, worse: float) -> float:
    return 0.5 if better == worse else float(better > worse)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan
