"""The reward for AReaL 1.0, as a workflow of one turn, and as a function for other workflows.

    trainer.train(workflow="flip_reward.integrations.areal.FlipWorkflow", workflow_kwargs={"gconfig": ..., ...})

AReaL calls reward functions in a few processes, one sample at a time in each, and gives a reward of 0 to what was not
back after 15 s, the time in its queue included, and three more tries. A reward function cannot prevent that.
`FlipWorkflow` can: it awaits the reward where the rollouts are, many at once and without a limit of time.

AReaL has no missing rewards: a response that could not be scored is an error, which drops the rollout (with
`gconfig.n_samples` those of its whole prompt), or a number of the user's choice (FLIP_REWARD_ON_UNSCORED).
"""

from __future__ import annotations

from areal.workflow.rlvr import RLVRWorkflow

from flip_reward.integrations.base import environment_reward

TRAINER = "AReaL"


def reward_fn(
    prompt: str,
    completions: str,
    prompt_ids: object = None,  # noqa: ARG001 - AReaL gives the tokens too
    completion_ids: object = None,  # noqa: ARG001
    **_data: object,
) -> float:
    """Score one sample, for workflows that take a reward function; see `score`."""
    reward = environment_reward()
    policy = reward.number_policy(TRAINER)
    response = reward.reader.strip_end_marks(completions)
    [number] = policy.numbers([reward.score_one(prompt, response, trainer=TRAINER)], trainer=TRAINER)
    return number


async def score(
    prompt: str,
    completions: str,
    prompt_ids: object = None,  # noqa: ARG001 - AReaL gives the tokens too
    completion_ids: object = None,  # noqa: ARG001
    **_data: object,
) -> float:
    """Score one sample.

    Args:
        prompt: The prompt as the policy's chat template renders it.
        completions: The response, with special tokens.
        prompt_ids: Not used.
        completion_ids: Not used.
        _data: The row of the data set; not used.

    Raises:
        UnscoredError: The response could not be scored, and no value was chosen for that.
        ConversationError: The prompt has the marks of an unknown template.
        OptionError: The reward compares responses, which AReaL never hands over together.
        FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
    """
    reward = environment_reward()
    policy = reward.number_policy(TRAINER)
    response = reward.reader.strip_end_marks(completions)
    [number] = policy.numbers([await reward.score_one_async(prompt, response, trainer=TRAINER)], trainer=TRAINER)
    return number


class FlipWorkflow(RLVRWorkflow):  # type: ignore[misc]  # mypy does not look into AReaL
    """AReaL's `RLVRWorkflow` with this reward; it takes the same arguments, by name, except `reward_fn`."""

    def __init__(self, **options: object) -> None:
        super().__init__(reward_fn=reward_fn, **options)
        self.async_reward_fn = score  # in place of AReaL's processes, which give a 0 to what is late
