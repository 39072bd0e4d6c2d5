"""How a reply could have begun, from servers: in the forms they answer in, and never a number that means nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web

from flip_reward.core.conversation import Group, Message
from flip_reward.core.score import Outcome
from flip_reward.engines.base import Completion, Request, Sampling
from flip_reward.engines.cache import ResponseCache
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.http.wire import decode_completion
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.errors import (
    EngineError,
    EngineUnavailableError,
    MalformedCompletionError,
    NoLogprobsError,
    RequestRefusedError,
)
from flip_reward.rewards.judges.logit import LogitPointwiseJudge
from tests.http.fault_server import list_alternatives
from tests.http.picky_server import PickyServer

ASKED = Request((Message("user", "Is a pear a fruit?"),), Sampling(max_tokens=1), top_logprobs=20)
TOP = (("Yes", -0.1), (" yes", -2.5), ("No", -5.0))


def refuse_nothing(body: dict[str, Any]) -> None:  # noqa: ARG001 - the shape of `refuse`
    return None


class AlternativeServer(PickyServer):
    """Answers one token, and says what is given about it."""

    def __init__(self, message: dict[str, Any], logprobs: object, refuse: Any = refuse_nothing) -> None:
        super().__init__(refuse)
        self._message = message
        self._logprobs = logprobs

    async def _take(self, http_request: web.Request) -> web.Response:
        refused = await super()._take(http_request)
        if refused.status >= 300:
            return refused
        choice = {"index": 0, "message": self._message, "logprobs": self._logprobs, "finish_reason": "length"}
        usage = {"prompt_tokens": 9, "completion_tokens": 1}
        return web.Response(text=json.dumps({"choices": [choice], "usage": usage}), content_type="application/json")


SAID = {"role": "assistant", "content": "Yes"}


async def ask(logprobs: object, message: dict[str, Any] = SAID, **server_options: Any) -> Completion:
    with AlternativeServer(message, logprobs, **server_options) as server:
        engine = HttpEngine(server.base_url, server.model)
        try:
            return await engine.complete(ASKED)
        finally:
            await engine.aclose()


def sglang(top: Sequence[tuple[str, float]]) -> dict[str, Any]:
    named = [{"token": text, "bytes": list(text.encode()), "logprob": value} for text, value in top]
    return {"content": [{**named[0], "top_logprobs": named}]}


def llama_cpp(top: Sequence[tuple[str, float]]) -> dict[str, Any]:
    named = [
        {"id": number, "token": text, "bytes": list(text.encode()), "logprob": value}
        for number, (text, value) in enumerate(top)
    ]
    return {"content": [{**named[0], "top_logprobs": named}]}


def without_bytes(top: Sequence[tuple[str, float]]) -> dict[str, Any]:
    named = [{"token": text, "logprob": value, "bytes": None} for text, value in top]
    return {"content": [{**named[0], "top_logprobs": named}]}


def as_completions_do(top: Sequence[tuple[str, float]]) -> dict[str, Any]:
    texts, values = [text for text, _ in top], [value for _, value in top]
    return {"tokens": texts[:1], "token_logprobs": values[:1], "top_logprobs": [dict(top)], "text_offset": [0]}


FORMS = {
    "OpenAI, vLLM": list_alternatives,
    "SGLang": sglang,
    "llama.cpp": llama_cpp,
    "Ollama, TGI": without_bytes,
    "llama-cpp-python, Together": as_completions_do,
}


@pytest.mark.parametrize("form", sorted(FORMS))
async def test_every_form_says_the_same(form: str) -> None:
    completion = await ask(FORMS[form](TOP))
    assert completion.top_logprobs == TOP
    assert completion.usage.completion_tokens == 1


async def test_the_request_asks_for_them_and_others_do_not() -> None:
    with AlternativeServer(SAID, list_alternatives(TOP)) as server:
        engine = HttpEngine(server.base_url, server.model)
        await engine.complete(ASKED)
        await engine.complete(Request(ASKED.messages))
        await engine.aclose()
        asked, plain = [received.body for received in server.received]
    assert (asked["logprobs"], asked["top_logprobs"], asked["max_tokens"], asked["temperature"]) == (True, 20, 1, 0)
    assert not {"logprobs", "top_logprobs"} & plain.keys()


async def test_bytes_spell_a_token_that_is_a_part_of_a_character() -> None:
    odd = {"token": "bytes:\\xe2\\x96", "bytes": [0xE2, 0x96], "logprob": -0.5}
    content = [{**odd, "top_logprobs": [odd, {"token": "▁Yes", "bytes": [], "logprob": -1.5}]}]
    assert (await ask({"content": content})).top_logprobs == (("�", -0.5), ("▁Yes", -1.5))


async def test_the_impossible_is_left_out_and_the_order_is_ours() -> None:
    completion = await ask(list_alternatives((("No", -5.0), ("Yes", -0.1), ("Maybe", -9999.0), ("yes", 1e-9 - 3))))
    assert [text for text, _ in completion.top_logprobs] == ["Yes", "yes", "No"]


ODD: dict[str, tuple[object, type[EngineError]]] = {
    "null": (None, NoLogprobsError),
    "nothing about the token": ({"content": None}, NoLogprobsError),
    "an empty list": ({"content": []}, NoLogprobsError),
    "no alternatives": ({"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": []}]}, NoLogprobsError),
    "a list of nothing": ({"tokens": [], "top_logprobs": None}, NoLogprobsError),
    "logits": (list_alternatives((("Yes", 17.25), ("No", 12.0))), NoLogprobsError),
    "logits below 0": (list_alternatives((("Yes", -0.2), ("No", -0.3))), NoLogprobsError),
    "more than a number holds": (list_alternatives((("Yes", -0.1), ("No", -(10**400)))), RequestRefusedError),
    "after sampling": (list_alternatives((("Yes", 0.0), ("No", -9999.0))), RequestRefusedError),
    "a value missing": (list_alternatives((("Yes", None), ("No", -1.0))), MalformedCompletionError),  # type: ignore[arg-type]
    "a value that is text": (list_alternatives((("Yes", "-1"), ("No", -1.0))), MalformedCompletionError),  # type: ignore[arg-type]
    "no number": (list_alternatives((("Yes", float("nan")), ("No", -1.0))), MalformedCompletionError),
    "another shape": ({"content": "Yes"}, NoLogprobsError),
    "bytes that are none": (
        {"content": [{"top_logprobs": [{"token": "A", "bytes": [999], "logprob": -1}]}]},
        MalformedCompletionError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(ODD))
async def test_odd_answers_are_errors(case: str) -> None:
    logprobs, error = ODD[case]
    with pytest.raises(EngineError) as caught:
        await ask(logprobs)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "", "reasoning_content": "Yes"},
        {"role": "assistant", "content": None, "reasoning": "Yes"},
        {"role": "assistant", "content": "No", "reasoning_content": "Yes, that is what"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "No"}]},
    ],
)
async def test_the_first_token_of_the_reasoning_is_not_that_of_the_answer(message: dict[str, Any]) -> None:
    assert (await ask(list_alternatives(TOP), message)).top_logprobs == ()


async def test_a_reply_without_a_token_has_none() -> None:
    assert (await ask({"content": []}, {"role": "assistant", "content": ""})).top_logprobs == ()


@pytest.mark.parametrize(
    "words",
    [
        "Requested sample logprobs of 20, which is greater than max allowed: 5",
        "Invalid value for 'top_logprobs': must be less than or equal to 5.",
        "`top_logprobs` must be between 0 and 8",
        "Input validation error: `top_n_tokens` must be >= 0 and <= 5. Given: 20",
    ],
)
async def test_a_server_that_gives_fewer_is_asked_for_fewer(words: str) -> None:
    def refuse(body: dict[str, Any]) -> str | None:
        return words if body.get("top_logprobs", 0) > 5 else None

    assert (await ask(list_alternatives(TOP), refuse=refuse)).top_logprobs == TOP


@pytest.mark.parametrize(
    "words",
    ["You are not allowed to request logprobs from this model.", "`logprobs` is not supported with this model"],
)
async def test_a_server_that_refuses_them_ends_the_run(words: str) -> None:
    with PickyServer(lambda body: words if "logprobs" in body else None, status=403) as server:
        engine = build_stack(HttpEngine(server.base_url, server.model), retry=RetryPolicy(max_attempts=2))
        with pytest.raises(EngineUnavailableError, match="logprobs"):
            await engine.complete(ASKED)
        await engine.aclose()


async def test_a_judge_over_a_server_is_cached(tmp_path: object) -> None:
    group = Group.of("Name a fruit.", ["Pear.", "Bread."])
    with (
        AlternativeServer(SAID, list_alternatives(TOP)) as server,
        ResponseCache(f"{tmp_path}/cache.sqlite3") as cache,
    ):
        judge = LogitPointwiseJudge(build_stack(HttpEngine(server.base_url, server.model), cache=cache))
        first, again = await judge.score(group), await judge.score(group)
        await judge.aclose()
        assert len(server.received) == 2
    assert [score.outcome for score in first] == [Outcome.SCORED] * 2
    assert [score.value for score in first] == [score.value for score in again]


async def test_a_stream_that_nobody_asked_for_keeps_those_of_the_first_token() -> None:
    def chunk(text: str, top: Sequence[tuple[str, float]]) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "logprobs": list_alternatives(top), "finish_reason": None}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    body = chunk("Yes", TOP) + chunk(",", ((",", -0.1), (".", -3.0)))
    completion = decode_completion(body, top_logprobs=20)
    assert completion is not None
    assert (completion.text, completion.top_logprobs) == ("Yes,", TOP)
