from __future__ import annotations

import importlib
import pickle
from types import ModuleType, SimpleNamespace

import pytest

from flip_reward.errors import ConversationError
from flip_reward.integrations.base import environment_reward
from tests.unit.integrations.conftest import SetEnvironment

PROMPT = "<|im_start|>user\nSay that it rains.<|im_end|>\n<|im_start|>assistant\n"
RESPONSE = "It rains in Spain."


@pytest.fixture
def module(frameworks: None) -> ModuleType:  # noqa: ARG001 - makes it importable
    return importlib.import_module("flip_reward.integrations.areal")


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        (PROMPT, f"{RESPONSE}<|im_end|>"),
        (f"{PROMPT}<think>\n", f"Rain...</think>{RESPONSE}<|im_end|>"),
    ],
    ids=["marks", "thinking begun by the template"],
)
async def test_the_function_and_the_workflow_read_the_template_away(
    prompt: str, completion: str, module: ModuleType, set_environment: SetEnvironment
) -> None:
    set_environment()
    [score] = environment_reward().score_samples(["Say that it rains."], [RESPONSE])
    assert score.value
    row = {"messages": [{"role": "user", "content": "Something else."}], "answer": "4"}
    assert pickle.loads(pickle.dumps(module.reward_fn))(prompt, completion, [1], [1], **row) == score.value
    assert await module.score(prompt, completion, prompt_ids=[1], completion_ids=[1], **row) == score.value


async def test_thinking_that_the_template_began_and_nobody_ended_is_no_answer(
    module: ModuleType, set_environment: SetEnvironment
) -> None:
    set_environment(on_unscored="-1")
    assert await module.score(f"{PROMPT}<think>\n", RESPONSE) == -1


async def test_a_prompt_of_an_unknown_template_is_an_error(
    module: ModuleType, set_environment: SetEnvironment
) -> None:
    set_environment()
    with pytest.raises(ConversationError, match="policy-tokenizer"):
        await module.score("<|zorp|>Say that it rains.<|zarp|>", RESPONSE)


def test_the_workflow_takes_no_reward_function_beside_its_own(module: ModuleType) -> None:
    gconfig = SimpleNamespace(new_with_stop_and_pad_token_ids=lambda _tokenizer: None)
    with pytest.raises(TypeError, match="reward_fn"):
        module.FlipWorkflow(gconfig=gconfig, tokenizer=None, reward_fn="package.module.reward")
