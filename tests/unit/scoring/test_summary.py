from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Cost, Outcome, Score, Usage
from flip_reward.scoring.summary import MOST_DISTINCT, Prices, RewardCounts, Tally


def test_unscored_responses_touch_no_reward_and_cached_tokens_cost_nothing() -> None:
    tally = Tally()
    tally.add(Score(0.5, Outcome.SCORED, cost=Cost(Usage(1_000_000, 500_000)), cautions=(Caution.SHORT_RESPONSE,)))
    tally.add(Score(None, Outcome.EMPTY_REPLY, cost=Cost(Usage(1_000_000, 0))))
    tally.add(Score(1.0, Outcome.SCORED, cost=Cost(Usage(7, 7), cached=True)))
    summary = tally.summarise(complete=True, rejected_rows=2, resumed_responses=1, seconds=2, prices=Prices(0.1, 0.4))
    assert summary.rewards is not None
    assert summary.rewards.mean == 0.75
    assert (summary.responses, summary.unscored, summary.rejected_rows) == (3, 1, 2)
    assert summary.cost == pytest.approx(0.4)
    assert summary.answered_from_cache == 1
    assert summary.cautions == {"short_response": 1}
    assert summary.rewards_per_second == 1.0


def test_nothing_scored() -> None:
    summary = Tally().summarise(complete=False, rejected_rows=0, resumed_responses=0, seconds=0, prices=None)
    assert summary.rewards is None
    assert not summary.scored_any
    assert summary.rewards_per_second == 0


def test_the_first_explanation_of_each_outcome_is_kept() -> None:
    tally = Tally()
    tally.add(Score(0.5, Outcome.SCORED, detail="left out: 1 empty_reply"))
    tally.add(Score(None, Outcome.EMPTY_REPLY))
    for number in range(2):
        tally.add(Score(None, Outcome.EMPTY_REPLY, detail=f"reasoning {number}"))
    summary = tally.summarise(complete=True, rejected_rows=0, resumed_responses=0, seconds=1)
    assert summary.details == {"empty_reply": "reasoning 0"}
    assert summary.scored_any


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60))
def test_quartiles_are_the_inclusive_ones(values: list[float]) -> None:
    counts = RewardCounts()
    for value in values:
        counts.add(value)
    found = counts.quartiles()
    assert found is not None
    expected = quantiles(values, n=4, method="inclusive")
    assert [found.first_quartile, found.median, found.third_quartile] == pytest.approx(expected, abs=1e-9)
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert found.mean == pytest.approx(sum(values) / len(values))


def test_quartiles_of_nothing() -> None:
    assert RewardCounts().quartiles() is None


def test_beyond_many_different_values_memory_stops_growing_and_quartiles_stay_close() -> None:
    counts = RewardCounts()
    count = 3 * MOST_DISTINCT
    for number in range(count):
        counts.add(number / count)
    found = counts.quartiles()
    assert found is not None
    assert [found.first_quartile, found.median, found.third_quartile] == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)
    assert found.maximum == (count - 1) / count
    assert len(counts) < MOST_DISTINCT
