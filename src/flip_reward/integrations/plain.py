"""The reward as a plain function of prompts and completions, as axolotl, Unsloth and older versions of TRL call one.

    trl:
      reward_funcs: [flip_reward.integrations.plain.flip]

TRL's OnlineDPOTrainer takes `flip_numbers`. For its GRPOTrainer, 1.16 or newer, there is a file of its own,
`flip_reward.integrations.trl`, which does more; it has to be awaited, and OnlineDPOTrainer does not. A response that
could not be scored is an error unless FLIP_REWARD_ON_UNSCORED says otherwise: axolotl and older versions of TRL count
None as 0 when they add rewards up.
"""

from __future__ import annotations

from collections.abc import Sequence

from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.samples import TextOrChat


def flip(prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat], **_columns: object) -> list[float | None]:
    """Score the samples of a step. Those with the same prompt are one group.

    Args:
        prompts: One for each completion: text, text as rendered by a chat template, or chat messages.
        completions: What the policy wrote: text or chat messages.

    Returns:
        The reward of each completion.

    Raises:
        UnscoredError: A response could not be scored, and no value was chosen for that.
        FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
    """
    reward = environment_reward()
    return reward.on_unscored.rewards(reward.score_samples(prompts, completions))


def flip_numbers(prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat], **_columns: object) -> list[float]:
    """Score the samples of a step for a trainer without missing rewards: TRL's OnlineDPOTrainer and SDPOTrainer.

    They would add a None up as 0, which is below every reward, and learn to avoid the response. Arguments and errors
    are those of `flip`.

    Raises:
        OptionError: FLIP_REWARD_ON_UNSCORED is "none".
    """
    reward = environment_reward()
    policy = reward.number_policy(_NO_NONE)
    return policy.numbers(reward.score_samples(prompts, completions), trainer=_NO_NONE)


_NO_NONE = "a trainer that adds up rewards"
