"""The reward for tinker-cookbook 0.6, as the group reward of an `EnvGroupBuilder`.

A builder whose environments have one turn mixes it in, and names the conversation and the renderer of the policy:

    @dataclass(frozen=True)
    class Prompt(FlipGroupRewards, EnvGroupBuilder):
        convo_prefix: list[Message]
        policy_renderer: Renderer
        num_envs: int = 8

        async def make_envs(self) -> list[PreferenceEnv]:
            return [PreferenceEnv(self.convo_prefix, self.policy_renderer) for _ in range(self.num_envs)]

Any other builder calls `group_rewards` in its `compute_group_rewards`. tinker-cookbook adds what the environments
gave at each step; `PreferenceEnv` gives nothing. It has no missing rewards: a response that could not be scored is an
error, or a number of the user's choice (FLIP_REWARD_ON_UNSCORED).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from flip_reward.errors import ConversationError
from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.samples import MessageLike, TextOrChat

TRAINER = "tinker-cookbook"


class Tokens(Protocol):
    """The part of tinker-cookbook's `TokensWithLogprobs` that is used."""

    @property
    def tokens(self) -> list[int]:
        """What the policy wrote."""


class Transition(Protocol):
    """The part of tinker-cookbook's `Transition` that is used."""

    @property
    def ac(self) -> Tokens:
        """The action of the policy."""


class Trajectory(Protocol):
    """The part of tinker-cookbook's `Trajectory` that is used."""

    @property
    def transitions(self) -> Sequence[Transition]:
        """The turns of an episode."""


class Renderer(Protocol):
    """The part of tinker-cookbook's `Renderer` that is used."""

    def parse_response(self, response: list[int], /) -> tuple[Mapping[str, object], object]:
        """Make a message of what the policy wrote."""


class Builder(Protocol):
    """What a builder has to have, as those of tinker-cookbook's preference environments do."""

    @property
    def convo_prefix(self) -> Sequence[MessageLike]:
        """The conversation up to the response."""

    @property
    def policy_renderer(self) -> Renderer:
        """The renderer that made the prompt."""


class FlipGroupRewards:
    """A mixin for builders of environments with one turn: the group is scored together, so rewards can compare."""

    async def compute_group_rewards(
        self: Builder,
        trajectory_group: Sequence[Trajectory],
        env_group: Sequence[object],  # noqa: ARG002 - the trajectories say it all
    ) -> list[tuple[float, dict[str, float | int]]]:
        """Score the responses of a group; see `group_rewards`."""
        strip = environment_reward().reader.strip_end_marks
        responses: list[TextOrChat] = []
        for trajectory in trajectory_group:
            if len(trajectory.transitions) != 1:
                raise ConversationError(
                    f"a trajectory of {len(trajectory.transitions)} turns, but FlipGroupRewards scores the only one",
                    hint="call flip_reward.integrations.tinker_cookbook.group_rewards with the conversation of yours",
                )
            message, _ = self.policy_renderer.parse_response(trajectory.transitions[0].ac.tokens)
            content = message["content"]  # a text of its own where the renderer found no thinking, or no end
            responses.append([{**message, "content": strip(content)} if isinstance(content, str) else message])
        return await group_rewards(self.convo_prefix, responses)


async def group_rewards(
    conversation: TextOrChat, responses: Sequence[TextOrChat]
) -> list[tuple[float, dict[str, float | int]]]:
    """Score the responses to one conversation, with the reward of the environment.

    Args:
        conversation: The messages up to the responses, or the instruction.
        responses: Each as text, or as messages that end with what `Renderer.parse_response` returns.

    Returns:
        For each response its reward and `flip_scored`, 1 where the reward is a score and 0 where it stands for an
        unscored response.

    Raises:
        UnscoredError: A response could not be scored, and no value was chosen for that.
        FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
    """
    loaded = environment_reward()
    policy = loaded.number_policy(TRAINER)
    scores = await loaded.score_samples_async([conversation] * len(responses), responses)
    numbers = policy.numbers(scores, trainer=TRAINER)
    return [
        (number, {"flip_scored": int(score.value is not None)}) for number, score in zip(numbers, scores, strict=True)
    ]
