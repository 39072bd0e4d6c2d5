from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.scoring.summary import MOST_DISTINCT, Distribution


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60))
def test_quartiles_are_the_inclusive_ones(values: list[float]) -> None:
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    found = distribution.quartiles()
    assert found is not None
    expected = quantiles(values, n=4, method="inclusive")
    assert [found.first_quartile, found.median, found.third_quartile] == pytest.approx(expected, abs=1e-9)
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert found.mean == pytest.approx(sum(values) / len(values))


def test_nothing() -> None:
    assert Distribution().quartiles() is None


def test_beyond_many_different_values_memory_stops_growing_and_quartiles_stay_close() -> None:
    distribution = Distribution()
    count = 3 * MOST_DISTINCT
    for number in range(count):
        distribution.add(number / count)
    found = distribution.quartiles()
    assert found is not None
    assert [found.first_quartile, found.median, found.third_quartile] == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)
    assert found.maximum == (count - 1) / count
    assert len(distribution._counts) < MOST_DISTINCT
