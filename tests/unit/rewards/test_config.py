from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from flip_reward.cli.scoring_options import ScoringOptions
from flip_reward.core.score import Aggregation
from flip_reward.engines.config import EngineConfig
from flip_reward.errors import OptionError
from flip_reward.rewards.config import RewardConfig


def test_the_names_and_defaults_are_those_of_the_command() -> None:
    command = {field.name: field.default for field in fields(ScoringOptions)}
    for name, field in RewardConfig.model_fields.items():
        default = command[name] if name != "extra_body" else {}
        assert field.default == default, name


def test_every_option_of_an_engine_can_be_chosen() -> None:
    left_out = {field.name for field in fields(EngineConfig)} - set(RewardConfig.model_fields)
    assert left_out == {"logprobs_api"}


def test_options_come_from_the_environment_with_their_types(tmp_path: Path) -> None:
    config = RewardConfig.from_environment(
        {
            "FLIP_REWARD_REWARD": "flip",
            "FLIP_REWARD_MODEL": "scripted",
            "FLIP_REWARD_EXTRA_BODY": '{"top_k": 20}',
            "FLIP_REWARD_NO_THINKING": "true",
            "FLIP_REWARD_AGGREGATION": "median",
            "FLIP_REWARD_TEMPLATE_DIR": str(tmp_path),
            "FLIP_REWARD_TIMEOUT_SECONDS": "7.5",
            "FLIP_REWARD_SEED": "",
            "FLIP_REWARD_ON_UNSCORED": "for somebody else",
            "HOME": "/",
        }
    )
    assert config.engine_config == EngineConfig(
        "scripted", extra_body={"top_k": 20}, no_thinking=True, timeout_seconds=7.5, cache=None
    )
    assert config.aggregation is Aggregation.MEDIAN
    assert config.template_dir == tmp_path
    assert config.seed is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"FLIP_REWARD_MODLE": "x"},
            "variable FLIP_REWARD_MODLE; did you mean FLIP_REWARD_MODEL",
        ),
        ({"FLIP_REWARD_SAMPLES": "many"}, "FLIP_REWARD_SAMPLES: Input should be a valid integer"),
        ({"FLIP_REWARD_EXTRA_BODY": "{"}, "FLIP_REWARD_EXTRA_BODY: "),
        ({"FLIP_REWARD_EXTRA_BODY": "3"}, "FLIP_REWARD_EXTRA_BODY: Input should be a valid dict"),
    ],
)
def test_mistakes_in_the_environment_are_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RewardConfig.from_environment(environment)


def test_options_of_another_reward_are_refused() -> None:
    with pytest.raises(OptionError, match="has no option 'orders'"):
        RewardConfig(model="scripted", orders=4).load()
    with pytest.raises(OptionError, match="unknown reward 'flop'; did you mean 'flip'"):
        RewardConfig(reward="flop", model="scripted").load()
