from __future__ import annotations

from types import SimpleNamespace

import pytest

from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.slime import reward
from tests.unit.integrations.conftest import SetEnvironment

PROMPT = "<|im_start|>user\nSay that it rains.<|im_end|>\n<|im_start|>assistant\n"
RESPONSE = "It rains in Spain."


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        (PROMPT, f"{RESPONSE}<|im_end|>"),
        ([{"role": "user", "content": "Say that it rains."}], RESPONSE),
        (f"{PROMPT}<think>\n", f"Rain...</think>{RESPONSE}"),
    ],
    ids=["marks", "messages", "thinking begun by the template"],
)
async def test_rendered_prompts_and_messages(
    prompt: str | list[dict[str, object]], response: str, set_environment: SetEnvironment
) -> None:
    set_environment()
    [score] = environment_reward().score_samples(["Say that it rains."], [RESPONSE])
    assert score.value
    assert await reward(None, SimpleNamespace(prompt=prompt, response=response)) == score.value


async def test_thinking_that_the_template_began_and_nobody_ended_is_no_answer(
    set_environment: SetEnvironment,
) -> None:
    set_environment(on_unscored="-1")
    assert await reward(None, SimpleNamespace(prompt=f"{PROMPT}<think>\n", response=RESPONSE)) == -1
