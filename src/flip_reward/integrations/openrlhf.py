"""The reward for OpenRLHF 0.11, as the file of its local `reward_func`.

    --reward.remote_url "$(python -m flip_reward.integrations openrlhf)"

When the address ends in ".py", OpenRLHF calls a function in place of a reward server, one sample at a time in a
thread. It only logs an error ("Failed to fetch reward from remote RM"), and the missing reward ends the step a little
later; the log of the rollout workers has the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flip_reward.core.chat.template import split_query
from flip_reward.integrations.base import environment_reward

if TYPE_CHECKING:
    from torch import Tensor

TRAINER = "OpenRLHF"


def reward_func(
    queries: Sequence[str],
    prompts: Sequence[str],
    labels: Sequence[object],  # noqa: ARG001 - the reward does without
) -> dict[str, Tensor | dict[str, Tensor]]:
    """Score samples.

    Args:
        queries: Prompt and response as one text, with special tokens.
        prompts: The prompts, plain or as rendered by the policy's chat template.
        labels: Not used.

    Returns:
        "rewards" and "scores" (the same; OpenRLHF filters prompts by them), each of the shape (samples,); under
        "extra_logs" `flip_scored`, 1 where a reward is a score and 0 where it stands for an unscored response.

    Raises:
        UnscoredError: A response could not be scored, and no value was chosen for that.
        ConversationError: A query does not begin with its prompt, or a prompt has the marks of an unknown template.
        OptionError: The reward compares responses, which OpenRLHF never hands over together.
        FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
    """
    import torch

    reward = environment_reward()
    policy = reward.number_policy(TRAINER)
    reward.check_independent(TRAINER)
    strip = reward.reader.strip_end_marks
    responses = [strip(split_query(query, prompt)) for query, prompt in zip(queries, prompts, strict=True)]
    scores = reward.score_samples(prompts, responses)
    rewards = torch.tensor(policy.numbers(scores, trainer=TRAINER), dtype=torch.float32)
    scored = torch.tensor([float(score.value is not None) for score in scores])
    return {"rewards": rewards, "scores": rewards.clone(), "extra_logs": {"flip_scored": scored}}
