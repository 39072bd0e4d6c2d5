from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.score import Aggregation, Outcome, Sample, Score, aggregate

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
UNPARSEABLE = Sample(None, Outcome.UNPARSEABLE_REPLY, raw_reply="prose")
TRUNCATED = Sample(None, Outcome.TRUNCATED_REPLY, raw_reply="{")


def sample(value: float, name: str = "") -> Sample:
    return Sample(value, Outcome.SCORED, value / 2, value / 4, f"do {name}", f"raw {name}", f"because {name}")


def score_of(values: Sequence[float], aggregation: Aggregation) -> Score:
    return aggregate([sample(value) for value in values], aggregation)


@pytest.mark.parametrize(
    ("values", "mean", "highest", "median", "spread"),
    [
        ([0.25, 0.75], 0.5, 0.75, 0.5, 0.25),
        ([0.0, 0.0, 0.75], 0.25, 0.75, 0.0, 0.125**0.5),
        ([1.0, 0.0, 0.5, 0.5], 0.5, 1.0, 0.5, 0.125**0.5),
        ([0.1, 0.1, 0.1], 0.1, 0.1, 0.1, 0.0),
        ([0.3], 0.3, 0.3, 0.3, None),
    ],
)
def test_by_hand(values: list[float], mean: float, highest: float, median: float, spread: float | None) -> None:
    scores = [score_of(values, aggregation) for aggregation in Aggregation]
    assert [score.value for score in scores] == [mean, highest, median]
    assert [score.spread for score in scores] == [spread if spread is None else pytest.approx(spread)] * 3


@given(VALUES, st.sampled_from(Aggregation))
def test_the_value_lies_among_the_samples(values: list[float], aggregation: Aggregation) -> None:
    score = score_of(values, aggregation)
    assert score.value is not None
    assert min(values) <= score.value <= max(values)
    assert (score.spread is None) == (len(values) == 1)
    assert 0 <= (score.spread or 0) <= 0.5 + 1e-9


@given(st.data(), VALUES, st.sampled_from(Aggregation))
def test_the_order_of_the_samples_does_not_matter(data: st.DataObject, values: list[float], how: Aggregation) -> None:
    shuffled = data.draw(st.permutations(values))
    one, other = score_of(values, how), score_of(shuffled, how)
    assert (one.value, one.spread) == (other.value, other.spread)


def test_the_texts_are_those_of_the_sample_nearest_to_the_value() -> None:
    samples = [sample(0.0, "a"), sample(0.5, "b"), sample(0.5, "c"), sample(1.0, "d")]
    middle, best = aggregate(samples), aggregate(samples, Aggregation.MAX)
    assert (middle.inferred_instruction, middle.raw_reply, middle.reasoning) == ("do b", "raw b", "because b")
    assert (middle.precision, middle.recall) == (0.25, 0.125)
    assert best.inferred_instruction == "do d"
    assert middle.samples == best.samples == tuple(samples)


def test_samples_without_a_value_are_left_out_and_told_of() -> None:
    samples = [TRUNCATED, sample(0.25, "a"), UNPARSEABLE, sample(0.75, "b"), TRUNCATED]
    score = aggregate(samples)
    assert (score.value, score.spread, score.inferred_instruction) == (0.5, 0.25, "do a")
    assert score.detail == "left out: 2 truncated_reply, 1 unparseable_reply"
    assert score.samples == tuple(samples)
    assert aggregate([TRUNCATED, sample(0.25)]).spread is None


def test_without_a_value_the_most_frequent_outcome_counts() -> None:
    score = aggregate([UNPARSEABLE, TRUNCATED, TRUNCATED])
    assert (score.value, score.outcome, score.raw_reply) == (None, Outcome.TRUNCATED_REPLY, "{")
    assert (score.spread, score.detail) == (None, None)
    assert aggregate([UNPARSEABLE, TRUNCATED]).outcome is Outcome.UNPARSEABLE_REPLY, "the first of equals"


def test_a_single_sample_is_the_score() -> None:
    score = aggregate([sample(0.5, "a")])
    assert (score.value, score.inferred_instruction, score.samples) == (0.5, "do a", ())
    with pytest.raises(ValueError, match="no samples"):
        aggregate([])
