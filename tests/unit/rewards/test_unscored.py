from __future__ import annotations

import pytest

from flip_reward.core.score import Outcome, Score
from flip_reward.errors import OptionError, UnscoredError
from flip_reward.rewards.unscored import NONE, RAISE, UnscoredPolicy

SCORES = [
    Score(0.25, Outcome.SCORED),
    Score(None, Outcome.EMPTY_RESPONSE),
    Score(0.0, Outcome.SCORED),
    Score(None, Outcome.ENGINE_FAILURE, detail="http://localhost:1 refuses connections"),
    Score(None, Outcome.ENGINE_FAILURE, detail="http://localhost:1 refuses connections"),
]


def test_none_leaves_gaps() -> None:
    assert NONE.rewards(SCORES) == [0.25, None, 0.0, None, None]


def test_a_constant_is_the_users() -> None:
    assert UnscoredPolicy.parse(" -1 ").numbers(SCORES, trainer="any") == [0.25, -1.0, 0.0, -1.0, -1.0]
    assert UnscoredPolicy.parse(0).rewards(SCORES) == [0.25, 0.0, 0.0, 0.0, 0.0]


def test_an_error_counts_the_outcomes_and_says_what_can_be_done() -> None:
    with pytest.raises(UnscoredError, match=r"3 of 5 responses .*: engine_failure 2, empty_response 1") as caught:
        RAISE.rewards(SCORES)
    assert "localhost:1 refuses connections" in str(caught.value)
    assert "FLIP_REWARD_ON_UNSCORED" in str(caught.value.hint)
    assert RAISE.numbers(SCORES[:1], trainer="any") == [0.25]


def test_a_trainer_without_missing_rewards_refuses_none_even_where_all_are_scored() -> None:
    with pytest.raises(OptionError, match="verl takes no None"):
        NONE.numbers(SCORES[:1], trainer="verl")


@pytest.mark.parametrize(
    ("text", "policy"),
    [("RAISE", RAISE), ("None", NONE), (None, None), ("", None), ("0.5", UnscoredPolicy.parse(0.5))],
)
def test_the_environment_chooses(text: str | None, policy: UnscoredPolicy | None) -> None:
    environment = {} if text is None else {"FLIP_REWARD_ON_UNSCORED": text}
    assert UnscoredPolicy.from_environment(environment) == policy


@pytest.mark.parametrize("text", ["zero", "nan", "inf", "-inf", "0,5"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="FLIP_REWARD_ON_UNSCORED: "):
        UnscoredPolicy.from_environment({"FLIP_REWARD_ON_UNSCORED": text})
