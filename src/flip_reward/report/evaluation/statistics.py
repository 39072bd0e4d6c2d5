"""Decisions of a reward by the length of the responses, and the distribution of its rewards."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter


class Decision(StrEnum):
    """Which responses of an item a reward put on top. The value is its letter in the report's data."""

    RIGHT = "r"
    """Nothing but chosen responses."""
    WRONG = "w"
    """Nothing but rejected ones."""
    TIED = "t"
    """Chosen and rejected ones alike."""
    UNSCORED = "u"
    """A response has no reward, so nothing was decided."""


def decide(share: float | None) -> Decision:
    """Name a decision by its credit: the share of chosen responses among those on top; None for an unscored item."""
    if share is None:
        return Decision.UNSCORED
    if 0 < share < 1:
        return Decision.TIED
    return Decision.RIGHT if share else Decision.WRONG


@dataclass(frozen=True, slots=True)
class Bin:
    """The decisions about items of similar length."""

    low: float
    """The smallest length (or difference of lengths) among them."""
    high: float
    items: int
    right: float
    """A tie counts its share."""
    interval: tuple[float, float] | None
    """The 95 % Wilson interval of the share of right ones, 0 to 1; None without an item."""


def bin_by_quintile(keys: Sequence[float], shares: Sequence[float | None], prompts: Sequence[Hashable]) -> list[Bin]:
    """Group items into fifths by a key, and add up their credits. Equal keys stay together.

    Items without a credit count for the bounds of the fifths, which are thus the same for every reward, and not in
    them. Items that share a prompt are one trial.
    """
    ordered = sorted(zip(keys, shares, prompts, strict=True), key=itemgetter(0))
    fifths: dict[int, list[tuple[float, float | None, Hashable]]] = {}
    rank = 0
    for _, tied in groupby(ordered, key=itemgetter(0)):
        items = list(tied)
        middle = rank + (len(items) - 1) / 2
        fifths.setdefault(int(5 * middle / len(ordered)), []).extend(items)
        rank += len(items)
    return [_count_bin(items) for _, items in sorted(fifths.items())]


def _count_bin(items: Sequence[tuple[float, float | None, Hashable]]) -> Bin:
    decided = [share for _, share, _ in items if share is not None]
    trials = len({prompt for _, share, prompt in items if share is not None})
    right = sum(decided)
    interval = wilson_interval(right / len(decided) * trials, trials) if decided else None
    return Bin(items[0][0], items[-1][0], len(decided), right, interval)


def wilson_interval(successes: float, trials: int) -> tuple[float, float] | None:
    """Return the 95 % score interval of a share (Wilson 1927); None without a trial.

    Credits between 0 and 1 vary less than successes do, so with ties the interval is a little wide.
    """
    if not trials:
        return None
    z = 1.959964
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class RewardHistogram:
    """The rewards of chosen and of rejected responses."""

    edges: list[float]
    """One more than there are bins. A reward on a bound is in the bin above it, on the last bound in the last bin."""
    chosen: list[int]
    rejected: list[int]
    chosen_mean: float | None
    rejected_mean: float | None
    auc: float | None
    """How often a random chosen response has a higher reward than a random rejected one, of any item, ties counting
    half; None when there is nothing to compare.
    """


def count_rewards(chosen: Sequence[float], rejected: Sequence[float]) -> RewardHistogram | None:
    """Count the rewards of chosen and rejected responses in bins of equal width; None without any.

    Rewards within 0 to 1 get twenty bins over that range, ratings from 1 to 10 a bin each, others twenty bins over
    their own range.
    """
    everything = [*chosen, *rejected]
    if not everything:
        return None
    edges = choose_edges(min(everything), max(everything))
    return RewardHistogram(
        edges,
        _count_in_bins(chosen, edges),
        _count_in_bins(rejected, edges),
        _mean(chosen),
        _mean(rejected),
        _area_under_curve(chosen, rejected),
    )


def choose_edges(low: float, high: float) -> list[float]:
    """Return the bounds of bins for values from low to high; see `count_rewards`."""
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 1 and high <= 10:
        return [rating + 0.5 for rating in range(11)]
    elif low == high:
        low, high = low - 0.5, high + 0.5
    return [low + (high - low) * step / 20 for step in range(21)]


def find_bin(value: float, edges: Sequence[float]) -> int:
    """Return the place of a value among bins of equal width."""
    bins = len(edges) - 1
    place = int((value - edges[0]) / (edges[-1] - edges[0]) * bins + 1e-9)  # 0.15 is not below 3/20
    return min(place, bins - 1)


def _count_in_bins(values: Iterable[float], edges: Sequence[float]) -> list[int]:
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[find_bin(value, edges)] += 1
    return counts


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _area_under_curve(chosen: Sequence[float], rejected: Sequence[float]) -> float | None:
    """Mann and Whitney's U over its maximum."""
    if not chosen or not rejected:
        return None
    ordered = sorted([*((value, 1) for value in chosen), *((value, 0) for value in rejected)])
    below, wins = 0, 0.0
    for _, tied in groupby(ordered, key=itemgetter(0)):
        labels = [label for _, label in tied]
        winners = sum(labels)
        losers = len(labels) - winners
        wins += winners * (below + losers / 2)
        below += losers
    return wins / (len(chosen) * len(rejected))
