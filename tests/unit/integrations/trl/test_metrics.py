import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from flip_reward.integrations.trl.metrics import (
    correlate_ranks,
    correlate_within_groups,
    instruction_4gram_overlap,
    share_without_variance,
)


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
    rewards = [[0.1, 0.2], [0.9, 0.8]]
    assert correlate_within_groups(rewards, [[10, 20], [1000, 1001]]) == 0.0
    assert correlate_within_groups(rewards, [[10, 20], [1001, 1000]]) == 1.0
    assert correlate_within_groups([], []) is None


@pytest.mark.parametrize(
    ("instruction", "response", "share"),
    [
        ("Write a poem about the sea and the wind", "Write poem about sea and wind!", 1.0),
        ("one two three four five", "Two, three, four, FIVE", 0.5),
        ("one two three four five", "five four three two one", 0.0),
        ("one two three", "one two three", None),
        ("one two three four", "", 0.0),
    ],
)
def test_copying(instruction: str, response: str, share: float | None) -> None:
    assert instruction_4gram_overlap(instruction, response) == share


def test_groups_without_variance() -> None:
    assert share_without_variance([]) is None
    assert share_without_variance([[0.1, 0.1, 0.2]]) == 0.0
    assert share_without_variance([[0.1], [0.3, 0.3]]) == 1.0
