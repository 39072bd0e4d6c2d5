"""A part of a benchmark: items of every subset in proportion, and those that belong together together."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from statistics import median_high

from flip_reward.evaluation.benchmarks.base import Benchmark
from flip_reward.evaluation.benchmarks.catalogue import load_protocol

_Unit = list[int]  # the places of the items that are taken together


def sample_items(benchmark: Benchmark, limit: int, *, seed: int = 0) -> Benchmark:
    """Take `limit` items, from every subset in proportion to its size (largest remainders), in the original order.

    Items that the protocol needs together (`Protocol.unit`) are taken or left together. Where no unit fits into the
    last places of a subset, other subsets fill them; only where none has one that fits are there fewer items. Every
    subset keeps at least one unit as long as there is room for that. The same seed takes the same items; a benchmark
    that is no larger than the limit is returned as it is.
    """
    if limit >= len(benchmark.items):
        return benchmark
    units = _find_units(benchmark)
    places = share_places(
        {name: sum(map(len, members)) for name, members in units.items()},
        limit,
        {name: median_high(map(len, members)) for name, members in units.items()},
    )
    draw, rest = random.Random(seed), random.Random(seed)  # noqa: S311 - a sample, not a secret
    taken: list[int] = []
    left: list[_Unit] = []
    for name, members in units.items():
        drawn = draw.sample(range(len(members)), min(places[name], len(members)))
        others = sorted(set(range(len(members))).difference(drawn))
        ordered = [members[index] for index in drawn + rest.sample(others, len(others))]
        chosen, more = _fill(_put_whole_first(ordered), places[name])
        taken += chosen
        left += more
    chosen, _ = _fill(left, limit - len(taken))
    return replace(benchmark, items=tuple(benchmark.items[index] for index in sorted(taken + chosen)))


def _find_units(benchmark: Benchmark) -> dict[str, list[_Unit]]:
    """The units of each subset, in the original order."""
    protocol = load_protocol(benchmark.protocol)
    found: dict[str, dict[str, _Unit]] = defaultdict(lambda: defaultdict(list))
    for index, item in enumerate(benchmark.items):
        found[item.subset][protocol.unit(item)].append(index)
    return {name: list(units.values()) for name, units in found.items()}


def _put_whole_first(units: list[_Unit]) -> list[_Unit]:
    """Begin with a unit of the usual size: half a pair would leave no place for a whole one in a small sample."""
    usual = median_high(map(len, units))
    first = next(index for index, unit in enumerate(units) if len(unit) >= usual)
    return [units[first], *units[:first], *units[first + 1 :]]


def _fill(units: list[_Unit], places: int) -> tuple[list[int], list[_Unit]]:
    """Take units as they come while they fit; return their items, and the units that were left."""
    taken: list[int] = []
    left: list[_Unit] = []
    for unit in units:
        if len(taken) + len(unit) <= places:
            taken += unit
        else:
            left.append(unit)
    return taken, left


def share_places(sizes: Mapping[str, int], places: int, least: Mapping[str, int] | None = None) -> dict[str, int]:
    """Share places among subsets in proportion to their sizes, by largest remainders.

    Each has at least `least` of them (1 by default), if that is not more than there are.
    """
    total = sum(sizes.values())
    reserved = dict.fromkeys(sizes, 1) if least is None else dict(least)
    if sum(reserved.values()) > places:
        reserved = dict.fromkeys(sizes, 1 if places >= len(sizes) else 0)
    shares = {name: max(reserved[name], places * size // total) for name, size in sizes.items()}
    while sum(shares.values()) != places:
        step = 1 if sum(shares.values()) < places else -1
        open_to_change = [name for name, size in sizes.items() if reserved[name] <= shares[name] + step <= size]
        lacking = {name: places * sizes[name] / total - shares[name] for name in open_to_change}
        shares[max(open_to_change, key=lambda name: step * lacking[name])] += step
    return shares
