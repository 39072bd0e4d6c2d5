"""The numbers of trained reward models over HTTP: the same by every API, and never one that means nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flip_reward import Group, Outcome, RewardConfig, TrainedReward
from flip_reward.core.conversation import Message
from flip_reward.engines.base import Classification, ClassifyRequest
from flip_reward.engines.classifying import ClassifierOptions, TrainedApi
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    EngineError,
    EngineServerError,
    EngineUnavailableError,
    MalformedCompletionError,
    NoClassifierError,
    RequestRefusedError,
)
from tests.hf_classifiers import save_reward_model
from tests.http.classify_servers import ClassifyServer, rate
from tests.http.fault_server import Fault, FaultServer, at_first, from_then_on
from tests.http.reward_server import RewardServer

TALK = (Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Name three fruits."))
REPLY = "Apples, pears and plums."


async def ask(server: FaultServer, reply: str = REPLY, *, model: str = "", **options: Any) -> Classification:
    engine = HttpEngine(
        server.base_url, model or server.model, timeout_seconds=5, classifier=ClassifierOptions(**options)
    )
    try:
        return await engine.classify(ClassifyRequest(TALK, reply))
    finally:
        await engine.aclose()


async def fail(server: FaultServer, reply: str = REPLY, **options: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await ask(server, reply, **options)
    return caught.value


class TestTheApiIsFound:
    @pytest.mark.parametrize(
        ("kind", "path"),
        [
            ("vllm", "/classify"),
            ("vllm-pooling", "/pooling"),
            ("vllm-reranker", "/score"),
            ("jina", "/v1/rerank"),
            ("cohere", "/v1/rerank"),
            ("llamacpp", "/rerank"),
            ("tei", "/rerank"),
        ],
    )
    async def test_and_gives_the_number_as_it_is(self, kind: str, path: str) -> None:
        with ClassifyServer(kind) as server:
            assert (await ask(server)).value == rate(REPLY)
            assert server.paths[-1] == path

    async def test_once(self) -> None:
        with ClassifyServer("vllm-reranker") as server:
            engine = HttpEngine(server.base_url, server.model)
            await engine.classify(ClassifyRequest(TALK, REPLY))
            server.received.clear()
            await engine.classify(ClassifyRequest(TALK, "Pears."))
            await engine.aclose()
            assert server.paths == ["/score"]
            assert engine.adaptations == ("rewards come from /score",)

    @pytest.mark.parametrize(
        ("api", "path"),
        [("classify", "/classify"), ("pooling", "/pooling"), ("score", "/score"), ("rerank", "/rerank")],
    )
    async def test_or_named(self, api: str, path: str) -> None:
        with ClassifyServer("vllm") as server:
            assert (await ask(server, trained_api=TrainedApi(api))).value == rate(REPLY)
            assert set(server.paths) == {path}

    async def test_the_whole_conversation_is_sent(self) -> None:
        with ClassifyServer("vllm") as server:
            await ask(server, "Pears.<|im_end|>")
            body = server.received[-1].body
        assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user", "assistant"]
        assert body["messages"][-1]["content"] == "Pears.< |im_end|>"
        assert (body["use_activation"], body["softmax"]) == (False, False)

    async def test_usage_is_counted(self) -> None:
        with ClassifyServer("vllm") as server:
            assert (await ask(server)).usage.prompt_tokens == 7

    async def test_a_conversation_is_no_pair_because_a_server_is_old(self) -> None:
        with ClassifyServer("vllm-old") as server:
            failure = await fail(server)
            assert "/score" not in server.paths
        assert isinstance(failure, NoClassifierError)
        assert "Field required" in str(failure.hint)

    @pytest.mark.parametrize("api", ["pooling"])
    async def test_numbers_of_tokens_are_no_reward(self, api: str) -> None:
        with ClassifyServer("vllm-old") as server:
            failure = await fail(server, trained_api=TrainedApi(api))
        assert isinstance(failure, NoClassifierError)
        assert "each token" in str(failure.hint)

    async def test_one_number_that_is_always_one_is_refused(self) -> None:
        with ClassifyServer("vllm", ignores_activation=True) as server:
            failure = await fail(server)
        assert isinstance(failure, NoClassifierError)
        assert "1 to everything" in str(failure.hint)

    @pytest.mark.parametrize("api", list(TrainedApi))
    async def test_a_server_without_a_reward_model_says_so(self, api: TrainedApi) -> None:
        with FaultServer() as server:  # it chats, and answers 404 elsewhere
            failure = await fail(server, trained_api=api)
        assert isinstance(failure, NoClassifierError)
        assert "asked:" in str(failure)
        assert ("score or rerank" in str(failure.hint)) == (api is TrainedApi.AUTO)

    async def test_also_where_it_says_it_in_other_words(self) -> None:
        with ClassifyServer("vllm-generative") as server:
            failure = await fail(server)
        assert isinstance(failure, NoClassifierError)
        assert "does not support" in str(failure.hint)


class TestSglang:
    async def test_it_is_sent_the_tokens_of_the_conversation(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "model")

        def count_turns(read: str | list[int]) -> list[float]:
            return [0.5 - read.count(2)] if isinstance(read, list) else [0.0]

        with ClassifyServer("sglang", values=count_turns) as server:
            answer = await ask(server, model_tokenizer=str(folder))
            assert answer.value == -3.5
            assert answer.usage.cached_tokens == 1
            assert "text" not in server.received[-1].body

    async def test_without_a_tokenizer_it_says_what_to_name(self, tmp_path: Path) -> None:
        with ClassifyServer("sglang", values=lambda _: [0.0]) as server:
            failure = await fail(server, model_tokenizer=str(tmp_path))
        assert isinstance(failure, EngineUnavailableError)
        assert "--model-tokenizer" in str(failure.hint)

    async def test_or_without_a_chat_template(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "model", chat_template=None)
        with ClassifyServer("sglang", values=lambda _: [0.0]) as server:
            assert "no chat template" in str(await fail(server, model_tokenizer=str(folder)))

    async def test_an_embedding_is_no_reward(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "model")
        with ClassifyServer("sglang", values=lambda _: [0.1] * 16) as server:
            failure = await fail(server, model_tokenizer=str(folder), label="3")
        assert "16 numbers" in str(failure)


class TestSeveralLabels:
    async def test_none_is_chosen_by_itself(self) -> None:
        with ClassifyServer("vllm", values=lambda _: [0.0, 1.0]) as server:
            failure = await fail(server)
        assert isinstance(failure, EngineUnavailableError)
        assert "2 numbers" in str(failure)
        assert "--label" in str(failure.hint)

    @pytest.mark.parametrize(("kind", "label"), [("vllm", "1"), ("tei-labels", "LABEL_1"), ("tei-labels", "1")])
    async def test_the_probability_of_one_is_the_reward(self, kind: str, label: str) -> None:
        with ClassifyServer(kind, values=lambda _: [0.0, 1.0]) as server:
            answer = await ask(server, label=label)
        assert answer.value == pytest.approx(1 / (1 + math.exp(-1)))

    @pytest.mark.parametrize("kind", ["vllm", "tei-labels"])
    async def test_an_unknown_one_is_refused(self, kind: str) -> None:
        with ClassifyServer(kind, values=lambda _: [0.0, 1.0]) as server:
            assert "has no label" in str(await fail(server, label="kind"))


def put(value: object) -> Callable[[Any], Any]:
    """Spoil the number of an answer, wherever it stands."""

    def spoil(answer: Any) -> Any:
        if "results" in answer:
            answer["results"][0]["relevance_score"] = value
        elif "probs" in answer["data"][0]:
            answer["data"][0]["probs"] = [value]
        else:
            answer["data"][0]["data"] = [value]
        return answer

    return spoil


def only_later(spoil: Callable[[Any], Any], *, after: int = 2) -> Callable[[Any], Any]:
    """Leave the first answers as they are: the API is found by then."""
    seen: list[Any] = []

    def change(answer: Any) -> Any:
        seen.append(answer)
        return answer if len(seen) <= after else spoil(answer)

    return change


APIS = ["classify", "pooling", "rerank"]


class TestWhatIsNoNumber:
    @pytest.mark.parametrize("api", APIS)
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "7", True])
    async def test_is_no_reward(self, api: str, value: object) -> None:
        with ClassifyServer("vllm", spoil=only_later(put(value))) as server:
            failure = await fail(server, trained_api=TrainedApi(api))
        assert isinstance(failure, RequestRefusedError)

    @pytest.mark.parametrize("api", APIS)
    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda answer: {**answer, _rows(answer): []}, id="none"),
            pytest.param(lambda answer: {**answer, _rows(answer): answer[_rows(answer)] * 2}, id="two"),
            pytest.param(
                lambda answer: {**answer, _rows(answer): [{**answer[_rows(answer)][0], "index": 1}]}, id="another"
            ),
            pytest.param(lambda _: {"choices": []}, id="other"),
            pytest.param(lambda _: [], id="list"),
            pytest.param(lambda _: 7, id="number"),
        ],
    )
    async def test_answers_about_something_else(self, api: str, spoil: Callable[[Any], Any]) -> None:
        with ClassifyServer("vllm", spoil=only_later(spoil)) as server:
            failure = await fail(server, trained_api=TrainedApi(api))
        assert isinstance(failure, MalformedCompletionError)

    async def test_an_error_in_the_place_of_an_answer(self) -> None:
        lost = only_later(lambda _: {"error": {"message": "the worker was lost", "code": 503}})
        with ClassifyServer("vllm", spoil=lost) as server:
            assert isinstance(await fail(server), EngineServerError)


def _rows(answer: Any) -> str:
    return "results" if "results" in answer else "data"


class TestFailures:
    async def test_what_does_not_fit_is_never_cut(self) -> None:
        with ClassifyServer("vllm") as server:
            assert isinstance(await fail(server, "word " * 300), ContextTooLongError)
        with ClassifyServer("tei") as server:
            assert isinstance(await fail(server, "word " * 300), ContextTooLongError)

    async def test_a_busy_server_is_asked_again(self) -> None:
        with ClassifyServer("vllm", at_first(Fault.BUSY)) as server:
            assert isinstance(await fail(server), EngineBusyError)
        with ClassifyServer("vllm", at_first(Fault.BUSY)) as server:
            engine = build_stack(
                HttpEngine(server.base_url, server.model), retry=RetryPolicy(3, first_wait_seconds=0.01)
            )
            answer = await engine.classify(ClassifyRequest(TALK, REPLY))
            await engine.aclose()
        assert (answer.value, answer.attempts) == (rate(REPLY), 2)

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (Fault.UNAUTHORIZED, EngineUnavailableError),
            (Fault.UNLOADED, EngineUnavailableError),
            (Fault.QUOTA, EngineUnavailableError),
            (Fault.SERVER_ERROR, EngineServerError),
            (Fault.REFUSED, RequestRefusedError),
        ],
    )
    async def test_later_failures_are_what_they_are(self, fault: Fault, kind: type[EngineError]) -> None:
        with ClassifyServer("vllm", from_then_on(fault, after=2)) as server:
            failure = await fail(server)
        assert isinstance(failure, kind)
        assert not isinstance(failure, NoClassifierError)

    async def test_a_failure_that_may_pass_is_not_taken_for_a_missing_api(self) -> None:
        with ClassifyServer("vllm", at_first(Fault.UNAVAILABLE)) as server:
            failure = await fail(server)
            assert server.paths == ["/classify"]
        assert isinstance(failure, EngineServerError)


def test_what_a_number_depends_on_is_part_of_the_identity() -> None:
    options = [
        ClassifierOptions(),
        ClassifierOptions(label="1"),
        ClassifierOptions(trained_api=TrainedApi.RERANK),
        ClassifierOptions(model_tokenizer="a/b"),
    ]
    identities = [HttpEngine("http://h/v1", "m", classifier=one).identity for one in options]
    assert len(set(identities)) == 4
    assert identities[0] == HttpEngine("http://h/v1", "m").identity == "chat-completions m {}"


def test_by_its_name_it_scores_groups_and_keeps_them(tmp_path: Path) -> None:
    with ClassifyServer("vllm", context_words=50) as server:
        config = RewardConfig(
            reward="trained", model=server.model, base_url=server.base_url, cache=str(tmp_path / "cache")
        )
        group = Group(TALK, (REPLY, "", "word " * 60, "<think>Hm.</think>Pears."))
        for cached in (False, True):
            with config.load() as reward:
                [scores] = reward.score_sync([group])
            assert [score.value for score in scores] == [rate(REPLY), None, None, rate("Pears.")]
            assert [score.outcome for score in scores][1:3] == [Outcome.EMPTY_RESPONSE, Outcome.CONTEXT_TOO_LONG]
            assert scores[0].cost.cached == cached


def test_a_reward_server_serves_it_and_knows_that_its_model_is_there() -> None:
    body = {"groups": [{"prompt": "Name three fruits.", "responses": [REPLY, ""]}]}
    with ClassifyServer("vllm", from_then_on(Fault.UNAVAILABLE, after=5)) as engine_server:
        engine = HttpEngine(engine_server.base_url, engine_server.model)
        with RewardServer(TrainedReward(engine)) as server:
            assert server.get("/ready").status == 200
            [group] = server.post("/v1/rewards", body).json()["results"]
            assert [score["reward"] for score in group["scores"]] == [rate(REPLY), None]
            server.post("/v1/rewards", body)
            server.post("/v1/rewards", body)
            assert server.get("/ready").status == 503
