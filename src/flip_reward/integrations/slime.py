"""The reward for slime, as a custom reward function.

    --custom-rm-path flip_reward.integrations.slime.reward
    --custom-rm-path flip_reward.integrations.slime.group_reward --group-rm

Rewards that compare responses need the second form. slime has no missing rewards: a response that could not be scored
is an error, or a number of the user's choice (FLIP_REWARD_ON_UNSCORED).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.samples import TextOrChat

TRAINER = "slime"


class SlimeSample(Protocol):
    """The parts of slime's `Sample` that are used."""

    @property
    def prompt(self) -> TextOrChat:
        """The messages, or with --apply-chat-template the text that the template makes of them."""

    @property
    def response(self) -> str:
        """What the policy wrote, perhaps with an end mark."""


async def reward(args: object, sample: SlimeSample, **_further: object) -> float:
    """Score one sample.

    Raises:
        UnscoredError: The response could not be scored, and no value was chosen for that.
        OptionError: The reward compares responses; `group_reward` is for those.
        FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
    """
    environment_reward().check_independent("slime without --group-rm")
    [number] = await group_reward(args, [sample])
    return number


async def group_reward(args: object, samples: Sequence[SlimeSample], **_further: object) -> list[float]:  # noqa: ARG001
    """Score the samples of a group, or of several; those of one conversation are compared with each other.

    Raises:
        UnscoredError: A response could not be scored, and no value was chosen for that.
        FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
    """
    loaded = environment_reward()
    policy = loaded.number_policy(TRAINER)
    scores = await loaded.score_samples_async(
        [sample.prompt for sample in samples], [loaded.reader.strip_end_marks(sample.response) for sample in samples]
    )
    return policy.numbers(scores, trainer=TRAINER)
