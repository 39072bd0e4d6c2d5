"""The workflow of one turn: its constructor, and where it keeps the reward that it awaits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def _call_in_a_process(*_call: object, **_data: object) -> float:
    """Stand for AReaL's `AsyncRewardWrapper`, whose answer to a late reward is 0."""
    return 0


class RLVRWorkflow:
    async_reward_fn: Callable[..., Awaitable[float]] = staticmethod(_call_in_a_process)

    def __init__(
        self, reward_fn: Callable[..., float] | str, gconfig: Any, tokenizer: Any, enable_thinking: bool = False
    ) -> None:
        self.reward_fn = reward_fn
        self.gconfig = gconfig.new_with_stop_and_pad_token_ids(tokenizer)
        self.tokenizer = tokenizer
        self.enable_thinking = enable_thinking
