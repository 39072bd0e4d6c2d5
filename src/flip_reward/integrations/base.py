"""The reward that the environment describes, for trainers that can only name a function.

Such a trainer imports a function and calls it; there is no place to hand a model over. So the reward and its model
are environment variables: FLIP_REWARD_ and the name of an option of `flip-reward score` in capitals, for example
FLIP_REWARD_MODEL and FLIP_REWARD_BASE_URL. Nothing is read or loaded before the first response is to be scored.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from flip_reward.core.conversation import Group
from flip_reward.core.score import Score
from flip_reward.errors import OptionError
from flip_reward.integrations.background_loop import BackgroundLoop
from flip_reward.integrations.per_process import OncePerProcess
from flip_reward.integrations.samples import Batch, Completion, Prompt, read_sample
from flip_reward.integrations.unscored import UnscoredPolicy
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig


class TrainerReward:
    """A reward as trainers call it: from plain functions and from any event loop.

    All scoring is done on one event loop in the background (see `BackgroundLoop`).

    Args:
        reward: What scores.
        on_unscored: What the user chose for responses without a score. None leaves it to the trainer's file.

    Example:
        >>> reward = TrainerReward.from_environment({"FLIP_REWARD_MODEL": "scripted"})
        >>> [score] = reward.score_samples(["Say hi."], ["It rains in Spain."])
        >>> score.outcome
        <Outcome.SCORED: 'scored'>
        >>> reward.close()
    """

    def __init__(self, reward: RewardModel, on_unscored: UnscoredPolicy | None = None) -> None:
        self.reward = reward
        self.on_unscored = on_unscored
        self._loop = BackgroundLoop()
        self._process_id = os.getpid()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Load what environment variables describe.

        Args:
            environment: For example `os.environ`.

        Raises:
            OptionError: A variable is misspelt or has a wrong value.
            FlipRewardError: The model, a template or the similarity cannot be loaded.
        """
        on_unscored = UnscoredPolicy.from_environment(environment)
        return cls(RewardConfig.from_environment(environment).load(), on_unscored)

    def policy(self, default: UnscoredPolicy, chosen: str | float | None = None) -> UnscoredPolicy:
        """Return what to do about unscored responses: what the trainer's configuration or the environment says.

        Args:
            default: Where nobody says anything.
            chosen: What the trainer's own configuration says, if anything; it comes first.

        Raises:
            OptionError: `chosen` cannot be read.
        """
        return UnscoredPolicy.parse(chosen) if chosen is not None else self.on_unscored or default

    def check_independent(self, trainer: str) -> None:
        """Make sure that the reward can score a response alone, for trainers that ask for one at a time.

        Raises:
            OptionError: It compares the responses of a group.
        """
        if not self.reward.independent:
            raise OptionError(
                f"{trainer} asks for one response at a time, but the reward {self.reward.settings['reward']!r} "
                "compares responses",
                hint="choose FLIP_REWARD_REWARD=flip, backward-likelihood or pointwise",
            )

    def score_one(self, prompt: Prompt, completion: Completion, *, trainer: str) -> Score:
        """Score one sample for a trainer that hands over one at a time, from synchronous code.

        Raises:
            OptionError: The reward compares responses.
            ConversationError: There is no instruction to infer.
            EngineUnavailableError: The engine will never answer.
        """
        self.check_independent(trainer)
        return self.score([read_sample(prompt, completion)])[0][0]

    async def score_one_async(self, prompt: Prompt, completion: Completion, *, trainer: str) -> Score:
        """Score one sample for a trainer that hands over one at a time, from any event loop; see `score_one`."""
        self.check_independent(trainer)
        [[score]] = await self.score_async([read_sample(prompt, completion)])
        return score

    def score(self, groups: Iterable[Group]) -> list[tuple[Score, ...]]:
        """Score groups from synchronous code, also below a running event loop; see `RewardModel.score`."""
        return self._loop.run(self.reward.score(groups))

    async def score_async(self, groups: Iterable[Group]) -> list[tuple[Score, ...]]:
        """Score groups from any event loop; see `RewardModel.score`."""
        return await self._loop.join(self.reward.score(groups))

    def score_samples(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """Score the samples of a step, one score for each, from synchronous code; see `Batch.of`."""
        batch = Batch.of(prompts, completions)
        return batch.in_order(self.score(batch.groups))

    async def score_samples_async(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        """Score the samples of a step, one score for each, from any event loop; see `Batch.of`."""
        batch = Batch.of(prompts, completions)
        return batch.in_order(await self.score_async(batch.groups))

    def close(self) -> None:
        """Write the cache, close connections and end the background thread."""
        if self._process_id == os.getpid():  # else the thread stayed behind in the process that was forked
            self._loop.run(self.reward.engine.aclose())
            self._loop.close()


def load_for_process(config: RewardConfig) -> TrainerReward:
    """Load a reward that is closed when the process ends; the environment says what unscored responses are worth.

    Raises:
        FlipRewardError: See `TrainerReward.from_environment`.
    """
    on_unscored = UnscoredPolicy.from_environment(os.environ)
    reward = TrainerReward(config.load(), on_unscored)
    atexit.register(reward.close)
    return reward


environment_reward = OncePerProcess(lambda: load_for_process(RewardConfig.from_environment(os.environ)))
"""Returns the reward of `os.environ`, loaded by the first call of each process."""


def forget_environment_reward() -> None:
    """Close the reward of this process; the next call of `environment_reward` reads the environment again."""
    for reward in environment_reward.forget():
        atexit.unregister(reward.close)
        reward.close()
