"""Samples keep the proportions of subsets, and together what belongs together."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem
from flip_reward.evaluation.benchmarks.rewardbench2 import FOUR_SUBSETS, TIES
from flip_reward.evaluation.benchmarks.sampling import sample_items, share_places
from tests.unit.evaluation.items import figures, grade, item, said

SIZES = {"large": 60, "middle": 30, "small": 9, "tiny": 1}
BENCHMARK = Benchmark(
    "b", "preference", tuple(item(f"{name}{n}", name) for name, size in SIZES.items() for n in range(size))
)


def test_the_same_seed_takes_the_same_items_in_their_order() -> None:
    sample = sample_items(BENCHMARK, 20, seed=3)
    assert sample.subsets == {"large": 12, "middle": 6, "small": 1, "tiny": 1}
    places = [BENCHMARK.items.index(found) for found in sample.items]
    assert places == sorted(places)
    assert sample == sample_items(BENCHMARK, 20, seed=3) != sample_items(BENCHMARK, 20, seed=4)


def test_a_sample_as_large_as_the_benchmark_is_the_benchmark() -> None:
    assert sample_items(BENCHMARK, 100) is BENCHMARK
    assert sample_items(BENCHMARK, 1000) is BENCHMARK


def test_fewer_places_than_subsets() -> None:
    assert sample_items(BENCHMARK, 2).subsets == {"large": 1, "middle": 1}


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_places_are_shared_whole(sizes: dict[str, int], data: st.DataObject) -> None:
    places = data.draw(st.integers(1, sum(sizes.values())))
    shares = share_places(sizes, places)
    assert sum(shares.values()) == places
    assert all(0 <= shares[name] <= size for name, size in sizes.items())
    if places >= len(sizes):
        assert min(shares.values()) >= 1
    if all(places * size / sum(sizes.values()) >= 1 for size in sizes.values()):
        assert all(abs(shares[name] - places * size / sum(sizes.values())) < 1 for name, size in sizes.items())


def make_rewardbench2(pairs: int, others: int, lone: int = 0) -> Benchmark:
    """Items of RewardBench 2 with pairs of prompts in Ties, and halves without their other."""
    items = [item(f"{name}{n}", name, rejected=3) for name in (*FOUR_SUBSETS, "Safety") for n in range(others)]
    items += [item(f"{half}:{n}", TIES, 1, 2) for half in ("ref", "tied") for n in range(pairs)]
    items += [item(f"tied:{pairs + n}", TIES, 1, 2) for n in range(lone)]
    return Benchmark("b", "rewardbench2", tuple(items))


@pytest.mark.parametrize("limit", [7, 8, 18, 41, 100, 300])
@pytest.mark.parametrize("lone", [0, 9])
def test_pairs_of_ties_stay_together_and_have_a_score(limit: int, lone: int) -> None:
    benchmark = make_rewardbench2(pairs=51, others=350, lone=lone)
    for seed in range(20):
        sample = sample_items(benchmark, limit, seed=seed)
        assert len(sample.items) == limit
        halves = Counter(one.id.partition(":")[2] for one in sample.items if one.subset == TIES)
        assert all(count == 2 for number, count in halves.items() if int(number) < 51)
        assert "Ties score" in figures(
            grade("rewardbench2", sample.items, [said(2, 1, *[1] * (len(one.chosen) - 2)) for one in sample.items])
        )


def test_without_room_for_a_pair_its_place_goes_to_another_subset() -> None:
    sample = sample_items(make_rewardbench2(pairs=5, others=10), 6)
    assert (len(sample.items), TIES in sample.subsets) == (6, False)


def test_where_no_unit_fits_there_are_fewer_items() -> None:
    items = tuple(item(f"{half}:{n}", TIES, 1, 2) for n in range(9) for half in ("ref", "tied"))
    assert len(sample_items(Benchmark("b", "rewardbench2", items), 7).items) == 6


@given(st.lists(st.integers(1, 6), min_size=2, max_size=12), st.integers(1, 30), st.integers(0, 5))
def test_units_are_taken_whole(sizes: list[int], limit: int, seed: int) -> None:
    items = tuple(
        BenchmarkItem.of(f"{unit}-{n}", f"s{unit % 3}", f"Do {unit}-{n}.", ["yes"], ["no"], unit=str(unit))
        for unit, size in enumerate(sizes)
        for n in range(size)
    )
    sample = sample_items(Benchmark("b", "preference", items), limit, seed=seed)
    assert len(sample.items) <= limit
    counts = Counter(one.unit for one in sample.items)
    assert all(count == sizes[int(unit)] for unit, count in counts.items())
    left = [size for unit, size in enumerate(sizes) if str(unit) not in counts]
    assert not left or limit - len(sample.items) < min(left), "no unit would have fitted"
