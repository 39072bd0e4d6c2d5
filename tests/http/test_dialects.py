"""Models that refuse the usual form of a request are asked in theirs, found out once."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from flip_reward.core.conversation import Group, Message
from flip_reward.core.score import Outcome
from flip_reward.engines.base import Completion, JsonSchema, Request, Sampling, find_adaptations
from flip_reward.engines.cache import ResponseCache
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import build_stack
from flip_reward.errors import ContextTooLongError, RequestRefusedError
from flip_reward.rewards.flip import FlipReward
from tests.http.picky_server import REPLY, PickyServer

ASKED = Request((Message("system", "Infer."), Message("user", "Apples.")), Sampling(max_tokens=9))


def like_o1(body: dict[str, Any]) -> str | None:
    if "max_tokens" in body:
        return "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead."
    if body.get("temperature", 1) != 1:
        return "Unsupported value: 'temperature' does not support 0 here. Only the default (1) value is supported."
    return None


def like_gemma(body: dict[str, Any]) -> str | None:
    return "System role not supported" if body["messages"][0]["role"] == "system" else None


async def ask(server: PickyServer, request: Request = ASKED, **options: Any) -> Completion:
    engine = HttpEngine(server.base_url, server.model, **options)
    try:
        return await engine.complete(request)
    finally:
        await engine.aclose()


async def test_a_reasoning_model_is_asked_in_its_form_from_the_first_refusal_on() -> None:
    with PickyServer(like_o1) as server:
        engine = HttpEngine(server.base_url, server.model)
        assert [(await engine.complete(ASKED)).text for _ in range(3)] == [REPLY] * 3
        await engine.aclose()
    assert len(server.received) == 2 + 3
    last = server.received[-1].body
    assert last["max_completion_tokens"] == 9
    assert not {"max_tokens", "temperature"} & last.keys()
    assert len(engine.adaptations) == 2


async def test_a_refusal_that_means_that_the_reply_was_cut_is_a_cut_reply() -> None:
    words = "Could not finish the message because max_tokens or model output limit was reached."
    with PickyServer(lambda body: like_o1(body) or words) as server:
        engine = HttpEngine(server.base_url, server.model)
        [[score]] = await FlipReward(engine).score([Group.of("Name a fruit.", "Apples.")])
        await engine.aclose()
    assert score.outcome is Outcome.TRUNCATED_REPLY
    assert "--max-tokens" in str(score.detail)
    assert len(engine.adaptations) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        "'system' is not a supported role",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported!",
        "Developer instruction is not enabled for this model",
        'messages: Unexpected role "system".',
        "Invalid role: system",
        "messages[0].role does not support 'system' with this model.",
    ],
)
async def test_a_refused_system_role_has_many_names(refusal: str) -> None:
    with PickyServer(lambda body: refusal if body["messages"][0]["role"] == "system" else None) as server:
        assert (await ask(server)).text == REPLY


@pytest.mark.parametrize("status", [400, 500])
async def test_without_a_system_role_its_text_stands_before_the_users(status: int) -> None:
    with PickyServer(like_gemma, status=status) as server:
        assert (await ask(server)).text == REPLY
    assert server.received[-1].body["messages"] == [{"role": "user", "content": "Infer.\n\nApples."}]


async def test_requests_in_flight_at_the_first_refusal_cost_no_row_and_no_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    groups = [Group.of("Name three fruits.", [f"Apples, pears and {n} plums."]) for n in range(40)]
    with PickyServer(like_o1, latency_seconds=0.02) as server, caplog.at_level(logging.WARNING):
        engine = build_stack(HttpEngine(server.base_url, server.model), concurrency=16)
        reward = FlipReward(engine)
        scores = await reward.score(groups)
        await engine.aclose()
    assert {(score.value, score.cost.attempts) for [score] in scores} == {(1.0, 1)}
    assert len(server.received) <= 40 + 2 * 16
    assert len(caplog.records) == 2
    assert reward.adaptations == find_adaptations(engine)
    assert len(reward.adaptations) == 2


@pytest.mark.parametrize(
    ("field", "refusal"),
    [
        ("seed", "property 'seed' is unsupported"),
        ("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'),
        ("top_p", "Unsupported parameter: 'top_p' is not supported with this model."),
        ("response_format", "This response_format type is unavailable now"),
        ("response_format", "'response_format.type' must be 'json_object' or 'text'"),
        ("response_format", "Invalid parameter: 'json_schema' is not supported with this model"),
        ("response_format", "Structured outputs are not supported by this model."),
        ("chat_template_kwargs", "Unrecognized request argument supplied: chat_template_kwargs"),
    ],
)
async def test_a_field_that_the_server_does_not_know_is_left_out(field: str, refusal: str) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, seed=3)
    request = Request(ASKED.messages, sampling, JsonSchema("verdict", '{"type": "object"}'))
    with PickyServer(lambda body: refusal if field in body else None) as server:
        assert (await ask(server, request, no_thinking=True)).text == REPLY
    refused, taken = server.received
    assert refused.body.keys() - taken.body.keys() == {field}


@pytest.mark.parametrize(
    "refusal",
    [
        "temperature must be at most 2",
        "a temperature above 1 is not allowed",
        "temperature: unexpected value, must be 1 or less",
        "Invalid schema for response_format: 'required' is missing",
        "The seed is out of range",
        "The system is overloaded",
        "No such tool: the user wrote max_completion_tokens",
    ],
)
async def test_other_refusals_stay_refusals(refusal: str) -> None:
    request = Request(ASKED.messages, Sampling(seed=3), JsonSchema("verdict", '{"type": "object"}'))
    with PickyServer(lambda _: refusal) as server:
        with pytest.raises(RequestRefusedError, match=refusal[:10]):
            await ask(server, request)
        assert len(server.received) == 1


async def test_what_helps_nothing_is_not_kept() -> None:
    """A refusal may quote a text, which must not change the requests that follow."""
    quoting = "Flagged: 'seed is not supported'"
    with PickyServer(lambda body: quoting if "Flag" in body["messages"][-1]["content"] else None) as server:
        engine = HttpEngine(server.base_url, server.model)
        sampling = Sampling(seed=3)
        with pytest.raises(RequestRefusedError):
            await engine.complete(Request((Message("user", "Flag me."),), sampling))
        await engine.complete(Request((Message("user", "Pears."),), sampling))
        await engine.aclose()
    assert server.received[-1].body["seed"] == 3
    assert engine.adaptations == ()


async def test_a_prompt_over_the_context_is_not_asked_in_another_form() -> None:
    words = "max_tokens or max_completion_tokens is not allowed: the model's maximum context length is 8 tokens"
    with PickyServer(lambda _: words) as server:
        with pytest.raises(ContextTooLongError):
            await ask(server)
        assert len(server.received) == 1


async def test_what_the_user_chose_is_sent_whatever_the_model_says() -> None:
    with PickyServer(like_o1) as server:
        with pytest.raises(RequestRefusedError, match="temperature"):
            await ask(server, extra_body={"temperature": 0})
        assert {received.body["temperature"] for received in server.received} == {0}


async def test_null_leaves_a_field_out() -> None:
    with PickyServer(lambda _: None) as server:
        await ask(
            server, Request(ASKED.messages, Sampling(seed=3)), extra_body={"seed": None, "top_k": None, "min_p": 0}
        )
    assert server.received[0].body.keys() == {"model", "messages", "temperature", "max_tokens", "min_p"}


@pytest.mark.parametrize(
    ("refuse", "extra_body", "kept"),
    [
        (lambda _: None, {}, 1),
        (like_gemma, {}, 1),
        (like_o1, {}, 0),
        (lambda _: None, {"temperature": None}, 0),
        (lambda _: None, {"temperature": 0.7}, 0),
        (lambda _: None, {"temperature": 0.7, "seed": 1}, 1),
    ],
)
async def test_a_sample_is_not_cached_as_the_answer(
    refuse: Any, extra_body: dict[str, object], kept: int, tmp_path: Path
) -> None:
    with PickyServer(refuse) as server, ResponseCache(tmp_path / "cache") as cache:
        engine = build_stack(HttpEngine(server.base_url, server.model, extra_body=extra_body), cache=cache)
        assert (await engine.complete(ASKED)).text == REPLY
        await engine.aclose()
        assert cache.info().entries == kept


@pytest.mark.parametrize(
    ("path", "asked_at"),
    [
        ("/openai/deployments/mine?api-version=2024-10-21", "/openai/deployments/mine/chat/completions"),
        (
            "/openai/deployments/mine/chat/completions?api-version=2024-10-21",
            "/openai/deployments/mine/chat/completions",
        ),
    ],
)
async def test_azure_is_asked_with_its_query_and_its_header(path: str, asked_at: str) -> None:
    with PickyServer(lambda _: None) as server:
        engine = HttpEngine(server.base_url.removesuffix("/v1") + path, server.model, api_key="0123456789abcdef")
        await asyncio.gather(engine.complete(ASKED), engine.complete(ASKED))
        await engine.aclose()
    for received in server.received:
        assert received.path == f"{asked_at}?api-version=2024-10-21"
        assert received.headers["api-key"] == "0123456789abcdef"
        assert "Authorization" not in received.headers
    assert "api-version" not in engine.base_url


async def test_azure_takes_the_tokens_of_its_users_as_a_bearer() -> None:
    with PickyServer(lambda _: None) as server:
        await HttpEngine(f"{server.base_url}?api-version=1", server.model, api_key="eyJhbGciOi.e30.x").complete(ASKED)
    assert server.received[0].headers["Authorization"] == "Bearer eyJhbGciOi.e30.x"


async def test_a_secret_in_the_query_is_not_repeated() -> None:
    with PickyServer(lambda _: "wrong key hunter2-hunter2") as server:
        with pytest.raises(RequestRefusedError) as caught:
            await HttpEngine(f"{server.base_url}?key=hunter2-hunter2", server.model).complete(ASKED)
        assert server.received[0].path.endswith("?key=hunter2-hunter2")
    assert "hunter2" not in str(caught.value)
