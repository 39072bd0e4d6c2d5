"""Rank correlations of rewards with what responses are like, within groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import correlation, fmean


def correlate_ranks(values: Sequence[float], others: Sequence[float]) -> float | None:
    """Compute Spearman's rank correlation, -1 to 1; equal values share the mean of their ranks.

    None where it is not defined: with fewer than two pairs, or when one side does not vary.
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} values cannot be paired with {len(others)}")
    if len(set(values)) < 2 or len(set(others)) < 2:
        return None
    return correlation(_rank(values), _rank(others))


def _rank(values: Sequence[float]) -> list[float]:
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    means = {value: fmean(found) for value, found in places.items()}
    return [means[value] for value in values]


def correlate_within_groups(groups: Sequence[Sequence[tuple[float, float]]]) -> float | None:
    """Return the mean over groups of the rank correlation of both sides of pairs within each.

    Nothing is compared between groups: an instruction that wants long responses says nothing about a preference for
    length.
    """
    return mean(correlate_ranks([a for a, _ in group], [b for _, b in group]) for group in groups)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known; None without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
