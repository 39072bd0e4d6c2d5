"""A sample of a benchmark that keeps the proportions of its subsets."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

from flip_reward.evaluation.benchmarks.base import Benchmark


def sample_items(benchmark: Benchmark, limit: int, *, seed: int = 0) -> Benchmark:
    """Take `limit` items, from every subset in proportion to its size (largest remainders), in the original order.

    Every subset keeps at least one item as long as there are as many places as subsets.

    Args:
        benchmark: What to take from. One that is no larger is returned as it is.
        limit: How many items, at least 1.
        seed: The same seed takes the same items.
    """
    if limit >= len(benchmark.items):
        return benchmark
    draw = random.Random(seed)  # noqa: S311 - a sample, not a secret
    members: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(benchmark.items):
        members[item.subset].append(index)
    places = share_places({name: len(indices) for name, indices in members.items()}, limit)
    taken = sorted(index for name, indices in members.items() for index in draw.sample(indices, places[name]))
    return replace(benchmark, items=tuple(benchmark.items[index] for index in taken))


def share_places(sizes: dict[str, int], places: int) -> dict[str, int]:
    """Share places among subsets in proportion to their sizes, by largest remainders.

    Example:
        >>> share_places({"large": 90, "small": 9, "tiny": 1}, 10)
        {'large': 8, 'small': 1, 'tiny': 1}
    """
    total = sum(sizes.values())
    reserved = 1 if places >= len(sizes) else 0
    shares = {name: max(reserved, places * size // total) for name, size in sizes.items()}
    while sum(shares.values()) != places:
        step = 1 if sum(shares.values()) < places else -1
        open_to_change = [name for name, size in sizes.items() if reserved <= shares[name] + step <= size]
        lacking = {name: places * sizes[name] / total - shares[name] for name in open_to_change}
        shares[max(open_to_change, key=lambda name: step * lacking[name])] += step
    return shares
