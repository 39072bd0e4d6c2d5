"""The reward for SkyRL, as an environment of skyrl-gym with a single turn.

Register it in the task that starts the training, and name it in the configuration or in the rows of the data:

    skyrl_gym.register(id="flip", entry_point="flip_reward.integrations.skyrl:FlipEnv")

    environment.env_class=flip

SkyRL has no missing rewards: a response that could not be scored is an error, which ends the run, or a number of the
user's choice (FLIP_REWARD_ON_UNSCORED).
"""

from __future__ import annotations

from typing import TypeAlias

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

from flip_reward.integrations.base import environment_reward

TRAINER = "SkyRL"

Chat: TypeAlias = list[dict[str, str]]


class FlipEnv(BaseTextEnv):  # type: ignore[misc]  # skyrl-gym has no types
    """Scores the response to one prompt; SkyRL makes one for each sample, and calls it in threads."""

    def __init__(self, env_config: object = None, extras: object = None) -> None:  # noqa: ARG002 - it needs neither
        super().__init__()
        self._prompt: Chat = []
        self._metrics: dict[str, float] = {}

    def init(self, prompt: Chat) -> tuple[Chat, dict[str, object]]:
        """Take the conversation that the policy answers."""
        self._prompt = [*prompt]  # SkyRL appends the response to its own list
        return prompt, {}

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Score the response, and end the episode.

        Returns:
            The reward; under "metadata" `flip_scored` (1, or 0 where a number stands for an unscored response),
            `flip_outcome` and `flip_inferred_instruction`.

        Raises:
            UnscoredError: The response could not be scored, and no value was chosen for that.
            OptionError: The reward compares responses, which SkyRL never hands over together.
            FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
        """
        reward = environment_reward()
        policy = reward.number_policy(TRAINER)
        score = reward.score_one(self._prompt, reward.reader.strip_end_marks(action), trainer=TRAINER)
        [number] = policy.numbers([score], trainer=TRAINER)
        self._metrics = {"flip_scored": float(score.value is not None)}
        metadata = {
            **self._metrics,
            "flip_outcome": score.outcome.value,
            "flip_inferred_instruction": score.inferred_instruction,
        }
        return BaseTextEnvStepOutput(observations=[], reward=number, done=True, metadata=metadata)

    def get_metrics(self) -> dict[str, float]:
        """Return `flip_scored`, which SkyRL averages."""
        return self._metrics
