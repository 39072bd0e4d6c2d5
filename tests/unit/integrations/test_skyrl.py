from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from flip_reward.errors import ConversationError
from flip_reward.integrations.base import environment_reward
from tests.unit.integrations.conftest import SetEnvironment

PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say that it rains."}]
RESPONSE = "It rains in Spain."


@pytest.fixture
def module(frameworks: None) -> ModuleType:  # noqa: ARG001 - makes it importable
    return importlib.import_module("flip_reward.integrations.skyrl")


def test_an_episode_is_one_response(module: ModuleType, set_environment: SetEnvironment) -> None:
    set_environment()
    [score] = environment_reward().score_samples([PROMPT], [RESPONSE])
    env = module.FlipEnv(extras={"reward_spec": {"method": "rule"}})
    assert env.init(PROMPT) == (PROMPT, {})
    output = env.step(f"{RESPONSE}<|im_end|>")
    assert (output["observations"], output["reward"], output["done"]) == ([], score.value, True)
    assert output["metadata"] == {
        "flip_scored": 1,
        "flip_outcome": "scored",
        "flip_inferred_instruction": score.inferred_instruction,
    }
    assert env.get_metrics() == {"flip_scored": 1}


def test_what_stands_for_an_unscored_response_is_told_apart(
    module: ModuleType, set_environment: SetEnvironment
) -> None:
    set_environment(on_unscored="0.25")
    env = module.FlipEnv()
    env.init(PROMPT)
    output = env.step("<|im_end|>")
    assert output["reward"] == 0.25
    assert output["metadata"]["flip_outcome"] == "empty_response"
    assert env.get_metrics() == {"flip_scored": 0}


def test_a_response_to_nothing_is_an_error(module: ModuleType, set_environment: SetEnvironment) -> None:
    set_environment()
    with pytest.raises(ConversationError, match="message"):
        module.FlipEnv().step(RESPONSE)
