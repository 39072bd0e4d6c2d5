"""What becomes of a response that could not be scored, for every trainer's file; and of rewards that compare."""

from __future__ import annotations

import pytest

from flip_reward.core.conversation import Group
from tests.unit.integrations.conftest import SetEnvironment
from tests.unit.integrations.trainers import TRAINERS, Trainer, to_samples

SAMPLES = to_samples([Group.of("Say it rains.", ["It rains in Spain.", " ", "<think>Rain..."])])

pytestmark = [pytest.mark.usefixtures("frameworks"), pytest.mark.parametrize("trainer", TRAINERS, ids=str)]


def test_by_default_it_is_an_error_that_says_what_can_be_done(
    trainer: Trainer, set_environment: SetEnvironment
) -> None:
    set_environment()
    with pytest.raises(Exception, match="could not be scored: ") as caught:
        trainer.reward(SAMPLES)
    assert "empty_response" in str(caught.value) or "unfinished_thinking" in str(caught.value)


def test_it_is_the_number_that_the_user_chose(trainer: Trainer, set_environment: SetEnvironment) -> None:
    set_environment(on_unscored="-0.5")
    scored, *unscored = trainer.reward(SAMPLES)
    assert scored is not None
    assert scored > 0
    assert unscored == [-0.5, -0.5]


def test_it_is_none_only_where_the_trainer_takes_that(trainer: Trainer, set_environment: SetEnvironment) -> None:
    set_environment(on_unscored="none")
    if trainer.takes_none:
        assert trainer.reward(SAMPLES)[1:] == [None, None]
    else:
        with pytest.raises(Exception, match="takes no None for a reward"):
            trainer.reward(SAMPLES[:1])


def test_a_reward_that_compares_responses_works_where_they_come_together(
    trainer: Trainer, set_environment: SetEnvironment
) -> None:
    set_environment(reward="listwise", on_unscored="-0.5")
    samples = to_samples([Group.of("Say it rains.", ["It rains.", "The sun shines.", "Rain."])])
    if trainer.groups:
        assert len(trainer.reward(samples)) == 3
    else:
        with pytest.raises(Exception, match="'listwise'"):
            trainer.reward(samples)
