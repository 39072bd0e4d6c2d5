"""`load_shared`: a reward by its name and options, loaded once by all callers that want the same one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from inspect import isclass

from flip_reward.errors import OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.waiting import OncePerProcess
from flip_reward.settings import check_names, check_settings

_MOST_KEPT = 2
"""Each may hold a language model in memory."""


def load_shared(reward: object, options: Mapping[str, object]) -> RewardModel:
    """Load the reward of a name and options of `RewardConfig`, or return what equal ones gave before.

    A reward model is returned as it is, and takes no options.

    Raises:
        OptionError: An option is misspelt, has a wrong value, or stands beside a reward model.
        FlipRewardError: The reward cannot be loaded; see `RewardConfig.load`.
    """
    check_names(options, RewardConfig.options())
    if isinstance(reward, RewardModel):
        if options:
            raise OptionError(
                f"a reward model has its options already, so {', '.join(options)} has no effect",
                hint="give the name of a reward, or make the model with these options",
            )
        return reward
    if not isinstance(reward, str):
        kind = reward.__name__ if isclass(reward) else type(reward).__name__
        raise OptionError(
            f"a reward is a name or a RewardModel, and not {kind}", hint="FunctionReward makes one of a function"
        )
    config = check_settings(RewardConfig, {**options, "reward": reward}, str)
    # What a configuration leaves to the environment is part of what makes two of them equal.
    variables = ("OPENAI_BASE_URL", "FLIP_REWARD_CACHE", config.engine.api_key_env)
    return _once(config.model_dump_json(), tuple([os.environ.get(name) for name in variables]))()


@lru_cache(_MOST_KEPT)
def _once(config: str, _environment: tuple[str | None, ...]) -> OncePerProcess[RewardModel]:
    return OncePerProcess(RewardConfig.model_validate_json(config).load)
