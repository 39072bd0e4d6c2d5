import pytest

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Cost, Outcome, Score, Usage
from flip_reward.scoring.summary import Prices, Tally


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
    assert summary.rewards_per_second == 0
