"""No trainer is rewarded by the small model of this package unless somebody named it."""

from __future__ import annotations

import pytest

from flip_reward.core.conversation import Group
from tests.unit.integrations.conftest import SetEnvironment
from tests.unit.integrations.trainers import TRAINERS, TRL, Trainer, to_samples

SAMPLES = to_samples([Group.of("Say it rains.", ["It rains in Spain."])])

pytestmark = [pytest.mark.usefixtures("frameworks"), pytest.mark.parametrize("trainer", [*TRAINERS, TRL], ids=str)]


@pytest.mark.parametrize("server", ["", "http://127.0.0.1:9/v1"])
@pytest.mark.parametrize("reward", ["flip", "pointwise"])
def test_it_is_an_error_that_says_what_to_set(
    trainer: Trainer, server: str, reward: str, set_environment: SetEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(model="", reward=reward)
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    with pytest.raises(Exception, match=f"'{reward}'.* set FLIP_REWARD_MODEL, and FLIP_REWARD_BASE_URL"):
        trainer.reward(SAMPLES)


@pytest.mark.parametrize(
    ("control", "value"), [("longest", 18), ("shortest", -18), ("copy", 4 / 7), ("constant", 0.5)]
)
def test_a_control_needs_none(trainer: Trainer, control: str, value: float, set_environment: SetEnvironment) -> None:
    set_environment(model="", reward=control)
    assert trainer.reward(SAMPLES) == [pytest.approx(value)]
