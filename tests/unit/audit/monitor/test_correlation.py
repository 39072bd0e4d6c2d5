import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from flip_reward.audit.monitor.correlation import correlate_ranks, correlate_within_groups


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_ranks_correlate_as_scipy_says(pairs: list[tuple[int, int]]) -> None:
    values, others = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    found = correlate_ranks(values, others)
    if len(set(values)) < 2 or len(set(others)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(values, others).statistic)


def test_unlike_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 values cannot be paired with 2"):
        correlate_ranks([1.0], [1.0, 2.0])


def test_long_responses_to_one_prompt_are_no_preference_for_length() -> None:
    assert correlate_within_groups([[(10, 0.1), (20, 0.2)], [(1000, 0.9), (1001, 0.8)]]) == 0.0
    assert correlate_within_groups([[(10, 0.1), (20, 0.2)], [(1001, 0.9), (1000, 0.8)]]) == 1.0
    assert correlate_within_groups([]) is None
