"""How likely a text is, over HTTP: the same numbers by every API, and never one that means nothing."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.engines.base import LogprobRequest, Request, Usage
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.errors import (
    ContextTooLongError,
    EngineConnectionError,
    EngineError,
    EngineServerError,
    EngineUnavailableError,
    MalformedCompletionError,
    NoLogprobsError,
    OptionError,
    RequestRefusedError,
)
from tests.http.fault_server import TRANSIENT, Choose, Fault, FaultServer, at_first, patience
from tests.http.logprob_servers import Answer, LogprobServer
from tests.http.toy_model import score, tokenize

OWNERS = ("vllm", "sglang", "acme")
"""What servers call themselves; each has an API of its own, and "acme" has `echo`."""

KEY = "sk-a-very-secret-key"

CLEAR = [
    ("The car sat.", " The cat"),
    ("The car", "ts sat"),  # one token of both
    ("ab", "c"),  # two tokens, of which the first is the prefix's alone
    (" ", " The\n"),
    ("The 🍎 is", " The cat"),
    ("The car", " 漢字 🍎 sat"),
]

UNCLEAR_ECHOES = [
    ("The🍎 is", " The 漢字 🍎 sat"),
    ("🍎", "🍎"),
    ("The � sat", "ab � \x00"),
]
"""Servers show the parts of a character as replacement characters, so `echo` alone does not say where each ends."""


async def ask(
    server: FaultServer, prefix: str, continuation: str, *, logprobs_api: str = "auto", api_key: str | None = None
) -> tuple[float, ...]:
    engine = HttpEngine(server.base_url, server.model, api_key=api_key, timeout_seconds=5, logprobs_api=logprobs_api)
    try:
        return (await engine.logprobs(LogprobRequest(prefix, continuation))).values
    finally:
        await engine.aclose()


async def fail(
    server: FaultServer,
    prefix: str = "The car",
    continuation: str = " sat",
    *,
    logprobs_api: str = "auto",
    api_key: str | None = None,
) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await ask(server, prefix, continuation, logprobs_api=logprobs_api, api_key=api_key)
    return caught.value


class TestTheSameNumbersByEveryApi:
    @pytest.mark.parametrize("owner", OWNERS)
    @pytest.mark.parametrize(("prefix", "continuation"), CLEAR)
    async def test_as_computed_directly(self, owner: str, prefix: str, continuation: str) -> None:
        with LogprobServer(owner) as server:
            assert await ask(server, prefix, continuation) == score(prefix, continuation)

    @pytest.mark.parametrize("owner", ["vllm", "sglang"])
    @pytest.mark.parametrize(("prefix", "continuation"), UNCLEAR_ECHOES)
    async def test_also_of_characters_of_several_tokens(self, owner: str, prefix: str, continuation: str) -> None:
        with LogprobServer(owner) as server:
            assert await ask(server, prefix, continuation) == score(prefix, continuation)

    @pytest.mark.parametrize(("prefix", "continuation"), UNCLEAR_ECHOES)
    async def test_an_echo_that_does_not_show_the_boundary_is_refused(self, prefix: str, continuation: str) -> None:
        with LogprobServer("acme") as server:
            failure = await fail(server, prefix, continuation)
        assert isinstance(failure, RequestRefusedError)
        assert "where the continuation begins" in str(failure)

    @pytest.mark.parametrize("owner", OWNERS)
    def test_of_any_text_the_same_numbers_or_none(self, owner: str) -> None:
        texts = st.text(st.sampled_from("abcTheé \n�🍎"), min_size=1, max_size=12)

        with LogprobServer(owner) as server:

            @given(texts, texts)
            def check(prefix: str, continuation: str) -> None:
                async def values() -> tuple[float, ...] | None:
                    try:
                        return await ask(server, prefix, continuation)
                    except RequestRefusedError:
                        return None

                assert asyncio.run(values()) in (None, score(prefix, continuation))

            check()

    def test_the_texts_do_test_the_boundary(self) -> None:
        assert tokenize("The carts sat")[:3] != tokenize("The car")
        assert len(score("ab", "c")) == 1
        assert len(tokenize("abc")) == 3

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_usage_is_what_the_scoring_request_took(self, owner: str) -> None:
        with LogprobServer(owner) as server:
            engine = HttpEngine(server.base_url, server.model)
            answer = await engine.logprobs(LogprobRequest("The car", " sat"))
            await engine.aclose()
        assert answer.usage == (Usage(4, 0, 2) if owner == "sglang" else Usage(4, 1))
        assert (answer.attempts, answer.cached) == (1, False)


def mark(answer: Answer, **fields: object) -> Answer:
    """Put fields where an answer says how it ended."""
    (answer["choices"][0] if "choices" in answer else answer["meta_info"]).update(fields)
    return answer


class TestHowItEnded:
    @pytest.mark.parametrize("owner", OWNERS)
    @pytest.mark.parametrize("odd", ["\ud83d", math.nan, "\x00"])
    async def test_an_odd_value_beside_the_numbers_spoils_nothing(self, owner: str, odd: object) -> None:
        with LogprobServer(owner, change=lambda answer: mark(answer, note=odd)) as server:
            assert await ask(server, "The car", " sat") == score("The car", " sat")

    @pytest.mark.parametrize("owner", OWNERS)
    @pytest.mark.parametrize(
        "ended",
        [
            {"finish_reason": "abort"},
            {"finish_reason": {"type": "abort", "message": "out of memory"}},
            {"error": {"code": 502, "message": "lost"}},
        ],
    )
    async def test_numbers_of_a_request_that_failed_mean_nothing(self, owner: str, ended: Answer) -> None:
        with LogprobServer(owner, change=lambda answer: mark(answer, **ended)) as server:
            assert isinstance(await fail(server), EngineServerError)


class TestTheApiIsDetected:
    @pytest.mark.parametrize(
        ("owner", "paths"),
        [
            ("vllm", ["/tokenize", "/tokenize", "/tokenize", "/v1/completions"]),
            ("sglang", ["/tokenize", "/tokenize", "/generate"]),
            ("acme", ["/v1/completions"]),
            (None, ["/v1/completions"]),
        ],
    )
    async def test_once(self, owner: str | None, paths: list[str]) -> None:
        with LogprobServer(owner) as server:
            engine = HttpEngine(server.base_url, server.model)
            await engine.logprobs(LogprobRequest("The car", " sat"))
            assert server.paths == paths
            server.received.clear()
            await engine.logprobs(LogprobRequest("The car", " sat"))
            await engine.aclose()
            assert server.paths == paths[-3:]

    async def test_vllm_without_a_tokenizer_is_asked_for_an_echo(self) -> None:
        with LogprobServer("vllm", has_tokenizer=False) as server:
            assert await ask(server, "The car", " sat") == score("The car", " sat")
            assert server.received[-1].body["echo"] is True

    @pytest.mark.parametrize("api", ["sglang", "prompt_logprobs"])
    async def test_what_needs_a_tokenizer_says_so(self, api: str) -> None:
        with LogprobServer("acme", has_tokenizer=False) as server:
            failure = await fail(server, logprobs_api=api)
        assert isinstance(failure, NoLogprobsError)
        assert "/tokenize" in str(failure)

    @pytest.mark.parametrize(("owner", "api"), [("vllm", "echo"), ("acme", "echo"), ("vllm", "prompt_logprobs")])
    async def test_or_named(self, owner: str, api: str) -> None:
        with LogprobServer(owner) as server:
            assert await ask(server, "The car", "ts", logprobs_api=api) == score("The car", "ts")
            assert ("echo" in server.received[-1].body) == (api == "echo")

    @pytest.mark.parametrize("api", ["sglang", "prompt_logprobs"])
    async def test_a_server_that_does_not_know_it_cannot(self, api: str) -> None:
        with LogprobServer("acme") as server:
            failure = await fail(server, logprobs_api=api)
        assert isinstance(failure, NoLogprobsError)
        assert ("/generate" if api == "sglang" else "prompt_logprobs") in str(failure)

    def test_there_must_be_such_an_api(self) -> None:
        with pytest.raises(OptionError, match="'vllm'") as caught:
            HttpEngine("http://host/v1", "model", logprobs_api="vllm")
        assert "prompt_logprobs" in str(caught.value.hint)

    async def test_llama_cpp_is_not_even_asked(self) -> None:
        with LogprobServer("llamacpp", echoes=False) as server:
            failure = await fail(server)
            assert not server.received
        assert isinstance(failure, NoLogprobsError)
        assert "llama.cpp" in str(failure)
        assert "vLLM" in str(failure.hint)

    async def test_a_server_that_ignores_echo_is_found_out(self) -> None:
        with LogprobServer("acme", echoes=False) as server:
            failure = await fail(server)
        assert isinstance(failure, NoLogprobsError)
        assert "echo" in str(failure)

    async def test_a_chat_server_without_completions_cannot(self) -> None:
        with FaultServer() as server:
            failure = await fail(server)
        assert isinstance(failure, NoLogprobsError)
        assert f"{server.base_url}/completions" in str(failure)


class TestWhatCannotBeAsked:
    async def test_messages_as_a_prefix(self) -> None:
        with LogprobServer("vllm") as server:
            engine = HttpEngine(server.base_url, server.model)
            with pytest.raises(NoLogprobsError) as caught:
                await engine.logprobs(LogprobRequest((Message("user", "The car"),), " sat"))
            assert "headings" in str(caught.value.hint)
            assert not server.received

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_nothing(self, owner: str) -> None:
        with LogprobServer(owner) as server:
            assert isinstance(await fail(server, "The car", ""), RequestRefusedError)

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_more_than_fits(self, owner: str) -> None:
        with LogprobServer(owner, context_tokens=8) as server:
            assert type(await fail(server, "The car" * 5)) is ContextTooLongError

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_a_text_after_nothing_follows_the_token_before_every_text(self, owner: str) -> None:
        with LogprobServer(owner) as server:
            assert await ask(server, "", "The cat") == score("", "The cat")

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_a_text_after_nothing_where_no_token_comes_before(self, owner: str) -> None:
        with LogprobServer(owner, split=lambda text: tokenize(text)[1:]) as server:
            failure = await fail(server, "", "The cat")
            assert isinstance(failure, RequestRefusedError)
            assert "prefix" in str(failure.hint)
            assert len(await ask(server, "The", " cat")) == len([" ca", "t"])

    @pytest.mark.parametrize("owner", ["vllm", "sglang"])
    async def test_a_continuation_that_the_tokenizer_leaves_out(self, owner: str) -> None:
        with LogprobServer(owner, split=lambda text: tokenize(text.rstrip())) as server:
            failure = await fail(server, "The car", "\n")
        assert isinstance(failure, RequestRefusedError)
        assert "no token of its own" in str(failure)

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_marks_of_chat_templates_are_sent_broken_up(self, owner: str) -> None:
        with LogprobServer(owner) as server:
            planted = await ask(server, "The<|im_end|> car", " sat</s>")
            assert planted == await ask(server, "The< |im_end|> car", " sat< /s>")
            assert not any("<|im_end|>" in json.dumps(received.body) for received in server.received)

    async def test_half_of_a_character_is_replaced(self) -> None:
        with LogprobServer("vllm") as server:
            assert await ask(server, "The \ud83c", "a") == score("The �", "a")


Spoil = Callable[[Answer], Answer]


def spoil_last(value: object) -> Spoil:
    """Replace the last token's log-probability for every API."""

    def change(answer: Answer) -> Answer:
        if "meta_info" in answer:
            answer["meta_info"]["input_token_logprobs"][-1][0] = value
            return answer
        (choice,) = answer["choices"]
        if choice["logprobs"] is not None:
            choice["logprobs"]["token_logprobs"][-2] = value  # the last one is generated
        else:
            (entry,) = choice["prompt_logprobs"][-1].values()
            entry["logprob"] = value
        return answer

    return change


def drop_last(answer: Answer) -> Answer:
    """Leave out the last token of the prompt for every API."""
    if "meta_info" in answer:
        answer["meta_info"]["input_token_logprobs"].pop()
        return answer
    (choice,) = answer["choices"]
    if choice["logprobs"] is not None:
        for values in choice["logprobs"].values():
            del values[-2:]
    else:
        choice["prompt_logprobs"].pop()
    return answer


def confuse_tokens(answer: Answer) -> Answer:
    """Answer about another token than the last one for every API."""
    if "meta_info" in answer:
        answer["meta_info"]["input_token_logprobs"][-1][1] += 1
        return answer
    (choice,) = answer["choices"]
    if choice["logprobs"] is not None:
        choice["logprobs"]["tokens"][-2] = "other"
    else:
        choice["prompt_logprobs"][-1] = {"0": {"logprob": -1.0}}
    return answer


def spoil_echo(**fields: object) -> Spoil:
    def change(answer: Answer) -> Answer:
        answer["choices"][0]["logprobs"].update(fields)
        return answer

    return change


class TestNoNumberThatMeansNothing:
    @pytest.mark.parametrize("owner", OWNERS)
    @pytest.mark.parametrize("value", [None, "-1.0", True, math.nan, [-1.0]])
    async def test_a_missing_value(self, owner: str, value: object) -> None:
        with LogprobServer(owner, change=spoil_last(value)) as server:
            assert type(await fail(server)) is MalformedCompletionError

    @pytest.mark.parametrize("owner", OWNERS)
    @pytest.mark.parametrize("value", [-9999.0, -1e300])
    async def test_minus_infinity(self, owner: str, value: float) -> None:
        with LogprobServer(owner, change=spoil_last(value)) as server:
            failure = await fail(server)
        assert isinstance(failure, RequestRefusedError)
        assert "minus infinity" in str(failure)

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_logits(self, owner: str) -> None:
        with LogprobServer(owner, change=spoil_last(12.5)) as server:
            failure = await fail(server)
        assert isinstance(failure, NoLogprobsError)
        assert "12.5" in str(failure)

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_rounding_is_no_logit(self, owner: str) -> None:
        with LogprobServer(owner, change=spoil_last(1e-6)) as server:
            assert (await ask(server, "The car", " sat"))[-1] == 0.0

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_fewer_tokens_than_asked_about(self, owner: str) -> None:
        with LogprobServer(owner, change=drop_last) as server:
            assert type(await fail(server)) is MalformedCompletionError

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_other_tokens_than_asked_about(self, owner: str) -> None:
        with LogprobServer(owner, change=confuse_tokens) as server:
            assert isinstance(await fail(server, "🍎", " sat"), MalformedCompletionError | RequestRefusedError)

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (spoil_echo(text_offset=[0]), MalformedCompletionError),
            (spoil_echo(text_offset=[3, 2, 1, 0, 0]), MalformedCompletionError),
            (spoil_echo(text_offset="none"), MalformedCompletionError),
            (spoil_echo(tokens=["token_id:1"] * 5), RequestRefusedError),
            (spoil_echo(tokens=None), NoLogprobsError),
            (lambda answer: {**answer, "usage": None}, MalformedCompletionError),
            (lambda answer: {**answer, "choices": []}, MalformedCompletionError),
            (
                lambda answer: {**answer, "choices": [{**answer["choices"][0], "text": "another"}]},
                RequestRefusedError,
            ),
        ],
    )
    async def test_an_echo_that_does_not_fit(self, change: Spoil, error: type[EngineError]) -> None:
        with LogprobServer("acme", change=change) as server:
            assert type(await fail(server)) is error

    async def test_an_echo_without_offsets_is_checked_by_its_tokens(self) -> None:
        with LogprobServer("acme", change=spoil_echo(text_offset=None)) as server:
            assert await ask(server, "The car", "ts") == score("The car", "ts")

    @pytest.mark.parametrize("answer", [{"choices": [{}]}, {"choices": [None]}, {"meta_info": {}}, {}])
    @pytest.mark.parametrize("owner", ["vllm", "sglang"])
    async def test_an_answer_of_another_shape(self, owner: str, answer: Answer) -> None:
        with LogprobServer(owner, change=lambda _: answer) as server:
            assert isinstance(await fail(server), MalformedCompletionError | NoLogprobsError)

    @pytest.mark.parametrize("tokens", ["The car", ["The"], 1.5, None])
    async def test_a_tokenizer_that_answers_something_else(self, tokens: object) -> None:
        with LogprobServer("sglang", split=lambda _: [tokens]) as server:
            assert type(await fail(server)) is MalformedCompletionError

    @pytest.mark.parametrize("owner", ["vllm", "sglang"])
    async def test_joined_tokens_without_a_text(self, owner: str) -> None:
        def forget_texts(answer: Answer) -> Answer:
            return json_replace(answer, " carts", " c�ts")

        with LogprobServer(owner, change=forget_texts) as server:
            failure = await fail(server, "The car", "ts")
        assert isinstance(failure, RequestRefusedError)
        assert "line break" in str(failure.hint)


def json_replace(answer: Answer, old: str, new: str) -> Answer:
    changed = json.loads(json.dumps(answer, ensure_ascii=False).replace(old, new))
    assert isinstance(changed, dict)
    return changed


def on_scoring(choose: Choose) -> Choose:
    """Let only the requests with log-probabilities fail."""
    return lambda path, number: None if path == "/tokenize" else choose(path, number)


class TestFailures:
    @pytest.mark.parametrize("owner", OWNERS)
    @pytest.mark.parametrize("fault", TRANSIENT)
    async def test_one_that_passes_costs_one_more_attempt(self, owner: str, fault: Fault) -> None:
        with LogprobServer(owner, on_scoring(at_first(fault))) as server:
            engine = build_stack(
                HttpEngine(server.base_url, server.model, timeout_seconds=patience(fault)),
                retry=RetryPolicy(first_wait_seconds=0.001, max_wait_seconds=0.005),
            )
            answer = await engine.logprobs(LogprobRequest("The car", "ts"))
            await engine.aclose()
        assert answer.values == score("The car", "ts")
        assert answer.attempts == 2

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Fault.SERVER_ERROR, EngineServerError),
            (Fault.RESET, EngineConnectionError),
            (Fault.HALF_BODY, MalformedCompletionError),
            (Fault.HTML, MalformedCompletionError),
            (Fault.REFUSED, RequestRefusedError),
        ],
    )
    @pytest.mark.parametrize("owner", OWNERS)
    async def test_each_has_the_error_that_a_completion_has(
        self, owner: str, fault: Fault, error: type[EngineError]
    ) -> None:
        with LogprobServer(owner, at_first(fault, times=9)) as server:
            assert type(await fail(server)) is error

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_a_wrong_key_ends_the_run_and_leaks_nowhere(self, owner: str) -> None:
        with LogprobServer(owner, api_key="another key") as server:
            failure = await fail(server, api_key=KEY)
        assert isinstance(failure, EngineUnavailableError)
        assert "OPENAI_API_KEY" in str(failure.hint)
        assert KEY not in str(failure)

    @pytest.mark.parametrize("owner", OWNERS)
    async def test_an_unknown_model_ends_the_run(self, owner: str) -> None:
        with LogprobServer(owner) as server:
            engine = HttpEngine(server.base_url, "test-modle", logprobs_api="echo")
            with pytest.raises(EngineUnavailableError, match="test-modle") as caught:
                await engine.logprobs(LogprobRequest("The car", " sat"))
            await engine.aclose()
        assert "'test-model'" in str(caught.value.hint)

    async def test_after_an_answer_a_refusal_concerns_one_request(self) -> None:
        with LogprobServer("acme", lambda _, number: Fault.FORBIDDEN if number == 2 else None) as server:
            engine = HttpEngine(server.base_url, server.model)
            await engine.logprobs(LogprobRequest("The car", " sat"))
            with pytest.raises(RequestRefusedError):
                await engine.logprobs(LogprobRequest("The car", " sat"))
            await engine.aclose()

    async def test_the_server_is_there_although_it_cannot_say_this(self) -> None:
        with LogprobServer("llamacpp") as server:
            engine = HttpEngine(server.base_url, server.model)
            with pytest.raises(NoLogprobsError):
                await engine.logprobs(LogprobRequest("The car", " sat"))
            assert (await engine.complete(Request((Message("user", "The car"),)))).text
            await engine.aclose()


@pytest.mark.parametrize("owner", OWNERS)
async def test_fields_of_chats_and_draws_are_left_out(owner: str) -> None:
    extra = {"top_k": 5, "reasoning_effort": "low", "max_tokens": 9, "priority": 3, "provider": {"only": ["acme"]}}
    with LogprobServer(owner) as server:
        engine = HttpEngine(server.base_url, server.model, extra_body=extra, no_thinking=True)
        await engine.logprobs(LogprobRequest("The car", " sat"))
        await engine.aclose()
        for received in server.received:
            assert received.body["priority"] == 3
            assert received.body["provider"] == {"only": ["acme"]}
            assert not {"top_k", "reasoning_effort", "chat_template_kwargs"} & received.body.keys()


def test_the_way_of_asking_is_no_part_of_the_identity() -> None:
    engine = HttpEngine("http://host/v1", "model", logprobs_api="echo")
    assert engine.identity == HttpEngine("http://host/v1", "model").identity
