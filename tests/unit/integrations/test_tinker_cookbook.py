from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from flip_reward.errors import ConversationError
from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.tinker_cookbook import FlipGroupRewards, group_rewards
from tests.unit.integrations.conftest import SetEnvironment

QUESTION = "Say that it rains."
CHAT = [{"role": "user", "content": QUESTION}]
RESPONSE = "It rains in Spain."
THOUGHT = {"type": "thinking", "thinking": "Rain..."}


class Renderer:
    """Finds the message that stands for a token."""

    def __init__(self, *contents: object) -> None:
        self.contents = contents

    def parse_response(self, response: list[int]) -> tuple[dict[str, object], str]:
        [token] = response
        return {"role": "assistant", "content": self.contents[token]}, "stop_sequence"


@dataclass(frozen=True)
class Prompt(FlipGroupRewards):
    convo_prefix: list[dict[str, str]]
    policy_renderer: Renderer

    async def score(self, turns: int = 1) -> list[tuple[float, dict[str, float | int]]]:
        trajectories: Sequence[Any] = [
            SimpleNamespace(transitions=[SimpleNamespace(ac=SimpleNamespace(tokens=[token]))] * turns)
            for token in range(len(self.policy_renderer.contents))
        ]
        return await self.compute_group_rewards(trajectories, [None] * len(trajectories))


async def test_messages_as_renderers_make_them(set_environment: SetEnvironment) -> None:
    set_environment(on_unscored="-2")
    [score] = environment_reward().score_samples([QUESTION], [RESPONSE])
    text = {"type": "text", "text": RESPONSE}
    prompt = Prompt(CHAT, Renderer(RESPONSE, [THOUGHT, text], f"{RESPONSE}<|im_end|>", [THOUGHT], [], "<think>Rain"))
    assert await prompt.score() == [(score.value, {"flip_scored": 1})] * 3 + [(-2, {"flip_scored": 0})] * 3


async def test_a_builder_goes_to_another_process_as_it_is(set_environment: SetEnvironment) -> None:
    set_environment()
    prompt = Prompt(CHAT, Renderer(RESPONSE))
    rewards = await prompt.score()
    assert await pickle.loads(pickle.dumps(prompt)).score() == rewards


@pytest.mark.parametrize("reward", ["z(flip)", "rank(flip)"])
async def test_the_responses_of_a_group_are_compared(reward: str, set_environment: SetEnvironment) -> None:
    set_environment(reward=reward)
    responses = [RESPONSE, "The sun shines.", "Rain."]
    scores = environment_reward().score_samples([QUESTION] * 3, responses)
    expected = [(score.value, {"flip_scored": 1}) for score in scores]
    assert await group_rewards(QUESTION, responses) == expected
    assert await Prompt(CHAT, Renderer(*responses)).score() == expected
    assert len({score.value for score in scores}) > 1


@pytest.mark.parametrize("turns", [0, 2])
async def test_several_turns_are_not_guessed_at(turns: int, set_environment: SetEnvironment) -> None:
    set_environment()
    with pytest.raises(ConversationError, match=f"{turns} turns"):
        await Prompt(CHAT, Renderer(RESPONSE)).score(turns)
