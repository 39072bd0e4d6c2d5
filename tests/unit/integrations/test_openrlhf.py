from __future__ import annotations

from pathlib import Path

import pytest

from flip_reward.core.conversation import Message
from flip_reward.errors import ConversationError
from flip_reward.integrations.base import environment_reward
from flip_reward.integrations.openrlhf import reward_func
from tests.chat_templates import TEMPLATES, render_prompt, spell_out
from tests.hf_models import save_tokenizer
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
def test_prompt_and_response_come_as_one_text(prompt: str, query: str, set_environment: SetEnvironment) -> None:
    set_environment()
    assert reward_func([query], [prompt], [""])["rewards"].tolist() == pytest.approx([expected()])  # type: ignore[union-attr]


def test_a_query_that_does_not_begin_with_its_prompt(set_environment: SetEnvironment) -> None:
    set_environment()
    with pytest.raises(ConversationError, match="prompt"):
        reward_func(["Something else."], [PROMPT], [""])


def test_a_prompt_with_the_marks_of_an_unknown_template(set_environment: SetEnvironment) -> None:
    set_environment()
    prompt = "<|bot_user|>Say that it rains.<|bot_end|><|bot_reply|>"
    with pytest.raises(ConversationError, match="bot_user") as caught:
        reward_func([f"{prompt}{RESPONSE}"], [prompt], [""])
    assert "FLIP_REWARD_POLICY_TOKENIZER" in (caught.value.hint or "")


def test_marks_are_learnt_from_the_tokenizer_of_the_policy(set_environment: SetEnvironment, tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, spell_out(TEMPLATES["nobody's"]))
    set_environment(policy_tokenizer=folder)
    prompt = render_prompt(TEMPLATES["nobody's"], Message("user", "Say that it rains."))
    answer = reward_func([f"{prompt}{RESPONSE} <<end>>\n"], [prompt], [""])
    assert answer["rewards"].tolist() == pytest.approx([expected()])  # type: ignore[union-attr]


def test_several_samples_in_one_call(set_environment: SetEnvironment) -> None:
    set_environment(on_unscored="-1")
    answer = reward_func([f"{PROMPT}{RESPONSE}", f"{PROMPT}<|im_end|>"], [PROMPT] * 2, ["", ""])
    assert answer["rewards"].tolist() == pytest.approx([expected(), -1])  # type: ignore[union-attr]
    assert answer["extra_logs"]["flip_scored"].tolist() == [1, 0]  # type: ignore[index]
