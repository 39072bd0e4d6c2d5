r"""The reward for ms-swift 4.6, as an external plugin file.

    swift rlhf --rlhf_type grpo --reward_funcs flip \
        --external_plugins "$(python -m flip_reward.integrations ms_swift)" ...

ms-swift imports this file, which registers the reward function "flip". It takes None for "no reward from this
function", but where no other function gave one it adds rewards up to 0; so a response that could not be scored is an
error unless FLIP_REWARD_ON_UNSCORED says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from swift.rewards import AsyncORM, orms

from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.samples import MessageLike


class FlipOrm(AsyncORM):  # type: ignore[misc]  # ms-swift has no types
    """Scores a batch at once. The samples of one conversation are one group."""

    async def __call__(
        self, completions: Sequence[str], *, messages: Sequence[Sequence[MessageLike]], **_columns: object
    ) -> list[float | None]:
        """Score a batch.

        ms-swift calls this with `asyncio.run`, in a new event loop at every step; the model's connections live in
        another one, which stays.

        Args:
            completions: The responses.
            messages: The conversations; each ends with its response.

        Raises:
            UnscoredError: A response could not be scored, and no value was chosen for that.
            FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
        """
        reward = environment_reward()
        prompts = [conversation[:-1] for conversation in messages]
        return reward.on_unscored.rewards(await reward.score_samples_async(prompts, completions))


orms["flip"] = FlipOrm
