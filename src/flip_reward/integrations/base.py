"""The reward that the environment describes, for trainers that can only name a function.

Such a trainer imports a function and calls it, and there is no place to hand a model over. So the reward and its
model are environment variables: FLIP_REWARD_ and the name of an option of `flip-reward score` in capitals, for
example FLIP_REWARD_MODEL and FLIP_REWARD_BASE_URL. Nothing is read or loaded before the first response is scored.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from typing import Self

from flip_reward.core.chat.template import ChatReader
from flip_reward.core.score import Score
from flip_reward.errors import OptionError
from flip_reward.integrations.samples import TextOrChat, group_samples, in_order
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.unscored import RAISE, UnscoredPolicy
from flip_reward.rewards.waiting import BackgroundLoop, OncePerProcess


class TrainerReward:
    """A reward as trainers call it: from plain functions and from any event loop.

    All scoring is done on one event loop in the background (see `BackgroundLoop`).
    """

    def __init__(
        self, reward: RewardModel, on_unscored: UnscoredPolicy = RAISE, reader: ChatReader | None = None
    ) -> None:
        self.reward = reward
        self.reader = reader or ChatReader()
        self.on_unscored = on_unscored
        self._loop = BackgroundLoop()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Load the reward that environment variables describe, for example those of `os.environ`."""
        return cls.load(RewardConfig.from_environment(environment), environment)

    @classmethod
    def load(cls, config: RewardConfig, environment: Mapping[str, str]) -> Self:
        """Load a reward, whose model has to be named; the environment says what unscored responses are worth."""
        config.require_model("FLIP_REWARD_MODEL", "FLIP_REWARD_BASE_URL")
        on_unscored = UnscoredPolicy.from_environment(environment) or RAISE
        reader = config.policy.load_reader()
        return cls(config.load(), on_unscored, reader)

    def number_policy(self, trainer: str, chosen: str | float | None = None) -> UnscoredPolicy:
        """What unscored responses are worth to a trainer without missing rewards, by its configuration if that says.

        Refuses the policy "none" before anything is scored.
        """
        policy = self.on_unscored if chosen is None else UnscoredPolicy.parse(chosen)
        policy.check_numbers(trainer)
        return policy

    def check_independent(self, trainer: str) -> None:
        """Refuse a reward that compares responses, for trainers that ask for one at a time."""
        if not self.reward.independent:
            raise OptionError(
                f"{trainer} asks for one response at a time, but the reward {self.reward.settings['reward']!r} "
                "compares responses",
                hint="choose FLIP_REWARD_REWARD=flip, backward-likelihood, trained or pointwise",
            )

    def score_samples(self, prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat]) -> list[Score]:
        """Score the samples of a step, one score for each, from synchronous code.

        A prompt is the instruction, the conversation as messages, or as a chat template renders it.
        """
        return self._loop.run(self._score(prompts, completions))

    async def score_samples_async(
        self, prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat]
    ) -> list[Score]:
        """Score the samples of a step from any event loop; see `score_samples`."""
        return await self._loop.join(self._score(prompts, completions))

    def score_one(self, prompt: TextOrChat, completion: TextOrChat, *, trainer: str) -> Score:
        """Score one sample for a trainer that hands over one at a time; see `score_samples`."""
        self.check_independent(trainer)
        [score] = self.score_samples([prompt], [completion])
        return score

    async def score_one_async(self, prompt: TextOrChat, completion: TextOrChat, *, trainer: str) -> Score:
        """Score one sample for a trainer that hands over one at a time, from any event loop."""
        self.check_independent(trainer)
        [score] = await self.score_samples_async([prompt], [completion])
        return score

    async def _score(self, prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat]) -> list[Score]:
        groups = group_samples(prompts, completions, reader=self.reader)
        return in_order(groups, await self.reward.score([one.group for one in groups]))

    def close(self) -> None:
        """Write the cache, close connections and end the background thread."""
        if self._loop.own:  # else the thread stayed behind in the process that was forked
            self._loop.run(self.reward.aclose())
            self._loop.close()


def load_for_process(config: RewardConfig) -> TrainerReward:
    """Load a reward that is closed when the process ends."""
    reward = TrainerReward.load(config, os.environ)
    atexit.register(reward.close)
    return reward


environment_reward = OncePerProcess(lambda: load_for_process(RewardConfig.from_environment(os.environ)))
"""Returns the reward of `os.environ`, loaded by the first call of each process."""


def forget_environment_reward() -> None:
    """Close the reward of this process; the next call of `environment_reward` reads the environment again."""
    for reward in environment_reward.forget():
        atexit.unregister(reward.close)
        reward.close()
