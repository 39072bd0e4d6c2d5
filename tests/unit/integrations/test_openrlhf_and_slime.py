"""Prompts as chat templates render them, and responses with their marks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flip_reward.errors import ConversationError
from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.openrlhf import reward_func
from flip_reward.integrations.slime import reward
from tests.unit.integrations.conftest import SetEnvironment

PROMPT = "<|im_start|>user\nSay that it rains.<|im_end|>\n<|im_start|>assistant\n"
RESPONSE = "It rains in Spain."


def expected() -> float:
    [score] = environment_reward().score_samples(["Say that it rains."], [RESPONSE])
    assert score.value
    return score.value


@pytest.mark.parametrize(
    ("prompt", "query"),
    [
        (PROMPT, f"{PROMPT}{RESPONSE}<|im_end|>\n<|endoftext|>"),
        (PROMPT, PROMPT[5:] + RESPONSE),
        ("Say that it rains.", f"Say that it rains.{RESPONSE}"),
        (f"{PROMPT}<think>\n", f"{PROMPT}<think>\nRain...</think>{RESPONSE}<|im_end|>"),
    ],
    ids=["marks", "cut on the left", "no marks", "thinking begun by the template"],
)
def test_openrlhf_gives_prompt_and_response_as_one_text(
    prompt: str, query: str, set_environment: SetEnvironment
) -> None:
    set_environment()
    assert reward_func([query], [prompt], [""])["rewards"].tolist() == pytest.approx([expected()])  # type: ignore[union-attr]


def test_openrlhf_hands_over_what_does_not_belong_together(set_environment: SetEnvironment) -> None:
    set_environment()
    with pytest.raises(ConversationError, match="does not begin with its prompt"):
        reward_func(["Something else."], [PROMPT], [""])


def test_openrlhf_may_come_to_hand_over_several(set_environment: SetEnvironment) -> None:
    set_environment(on_unscored="-1")
    answer = reward_func([f"{PROMPT}{RESPONSE}", f"{PROMPT}<|im_end|>"], [PROMPT] * 2, ["", ""])
    assert answer["rewards"].tolist() == pytest.approx([expected(), -1])  # type: ignore[union-attr]
    assert answer["extra_logs"]["flip_scored"].tolist() == [1, 0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        (PROMPT, f"{RESPONSE}<|im_end|>"),
        ([{"role": "user", "content": "Say that it rains."}], RESPONSE),
        (f"{PROMPT}<think>\n", f"Rain...</think>{RESPONSE}"),
    ],
    ids=["marks", "messages", "thinking begun by the template"],
)
async def test_slime(prompt: str | list[dict[str, object]], response: str, set_environment: SetEnvironment) -> None:
    set_environment()
    assert await reward(None, SimpleNamespace(prompt=prompt, response=response)) == expected()


async def test_thinking_that_the_template_began_and_nobody_ended_is_no_answer(
    set_environment: SetEnvironment,
) -> None:
    set_environment(on_unscored="-1")
    assert await reward(None, SimpleNamespace(prompt=f"{PROMPT}<think>\n", response=RESPONSE)) == -1
