from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest

from flip_reward.core.conversation import Group
from flip_reward.integrations.base import environment_reward
from tests.unit.integrations.conftest import SetEnvironment
from tests.unit.integrations.trainers import to_openai_response

RESPONSE = "It rains in Spain."
THOUGHTS = {"type": "reasoning", "id": "1", "summary": []}
CALL = {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "1", "output": "Clouds."}


@pytest.fixture
def module(frameworks: None) -> ModuleType:  # noqa: ARG001 - makes it importable
    return importlib.import_module("flip_reward.integrations.nemo_gym")


def said(*texts: str, kind: str = "output_text", field: str = "text") -> dict[str, object]:
    return {"type": "message", "role": "assistant", "content": [{"type": kind, field: text} for text in texts]}


def asked(text: str) -> dict[str, object]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


@pytest.mark.parametrize(
    ("request_", "messages"),
    [
        ({"input": "Hi"}, [("user", "Hi")]),
        ({"input": "Hi", "instructions": "Be brief."}, [("system", "Be brief."), ("user", "Hi")]),
        ({"input": [{"role": "developer", "content": "Be brief."}, asked("Hi")]}, [
            ("developer", "Be brief."), ("user", "Hi"),
        ]),
        ({"input": [asked("Hi"), THOUGHTS, CALL, RESULT, said("Hello!"), asked("Bye")]}, [
            ("user", "Hi"), ("tool", "Clouds."), ("assistant", "Hello!"), ("user", "Bye"),
        ]),
    ],
    ids=["text", "instructions", "messages", "items of every kind"],
)  # fmt: skip
def test_the_conversation_is_what_the_policy_was_given(
    request_: dict[str, Any], messages: Sequence[tuple[str, str]], module: ModuleType
) -> None:
    prompt, response = module.read_rollout(request_, [said("See you.")])
    assert [(turn.role, turn.content) for turn in Group.of(prompt, response).messages] == messages
    assert response == "See you."


@pytest.mark.parametrize(
    ("output", "response"),
    [
        ([THOUGHTS, said("Hello", " you.")], "Hello you."),
        ([said("Let me look."), CALL, RESULT, THOUGHTS, said("It rains.")], "It rains."),
        ([{"type": "message", "role": "assistant", "content": "Plain."}], "Plain."),
        ([said("I cannot.", kind="refusal", field="refusal")], "I cannot."),
        ([said("Let me look."), CALL], ""),
        ([said("Let me look."), CALL, RESULT], ""),
        ([THOUGHTS], ""),
        ([], ""),
    ],
    ids=["parts", "tools", "text", "refusal", "ends in a call", "ends in a result", "ends in thoughts", "nothing"],
)
def test_the_response_is_what_the_policy_said_in_the_end(
    output: list[dict[str, object]], response: str, module: ModuleType
) -> None:
    prompt, found = module.read_rollout({"input": "Hi"}, output)
    assert (prompt, found) == ([{"role": "user", "content": "Hi"}], response)


def test_the_response_is_to_what_the_user_said_last(module: ModuleType) -> None:
    prompt, response = module.read_rollout({"input": "Hi"}, [said("Hello!"), asked("Bye"), said("See you.")])
    assert [turn["role"] for turn in prompt] == ["user", "assistant", "user"]
    assert response == "See you."
    assert module.read_rollout({"input": "Hi"}, [said("Hello!"), asked("Bye")])[1] == ""


def test_the_answer_is_the_request_with_a_reward(module: ModuleType, set_environment: SetEnvironment) -> None:
    set_environment(on_unscored="-1")
    [score] = environment_reward().score_samples(["Say that it rains."], [RESPONSE])
    server = module.FlipResourcesServer.model_construct()

    def verify(response: str) -> dict[str, Any]:
        body = {
            "responses_create_params": {"input": "Say that it rains."},
            "response": to_openai_response(response),
            "subset": "weather",
            "reward": 5.0,  # of an earlier verification
        }
        answer: dict[str, Any] = asyncio.run(
            server.verify(module.FlipVerifyRequest.model_validate(body))
        ).model_dump()
        return answer

    answer = verify(RESPONSE)
    assert (answer["reward"], answer["flip_scored"], answer["flip_outcome"]) == (score.value, 1, "scored")
    assert answer["flip_inferred_instruction"] == score.inferred_instruction
    assert answer["subset"] == "weather"
    assert answer["response"]["output"][-1]["content"][0]["text"] == RESPONSE
    unscored = verify(" ")
    assert (unscored["reward"], unscored["flip_scored"], unscored["flip_outcome"]) == (-1, 0, "empty_response")
