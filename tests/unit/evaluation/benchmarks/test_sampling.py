"""Samples keep the proportions of the subsets."""

from hypothesis import given
from hypothesis import strategies as st

from flip_reward.evaluation.benchmarks.base import Benchmark, sample_items, share_places
from tests.unit.evaluation.items import item

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
