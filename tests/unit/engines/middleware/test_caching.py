from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, LogprobRequest, Request, Sampling, TokenLogprobs, Usage
from flip_reward.engines.cache import ResponseCache, cache_key
from flip_reward.engines.middleware import FLUSH_SECONDS, CachingEngine
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineServerError

REQUEST = Request((Message("user", "hello there"),))
UNREPEATABLE = replace(REQUEST, sampling=Sampling(temperature=1.0))
ANSWER = Completion("reply", "stop", Usage(5, 1))
LIKELIHOOD = TokenLogprobs((-1.0, -2.5), Usage(7))
FREE = Completion("reply", "stop", Usage(), attempts=0, cached=True)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ResponseCache]:
    with ResponseCache(tmp_path / "cache.sqlite3") as cache:
        yield cache


def count_entries(cache: ResponseCache) -> int:
    with closing(sqlite3.connect(cache.path)) as reader:
        (count,) = reader.execute("SELECT COUNT(*) FROM responses").fetchone()
    return int(count)


class GatedEngine:
    """Answers when its gate opens."""

    model = identity = "gated"

    def __init__(self, failure: Exception | None = None) -> None:
        self.gate = asyncio.Event()
        self.failure = failure
        self.requests = 0

    async def complete(self, request: Request) -> Completion:  # noqa: ARG002 - any request will do
        await self._pass_gate()
        return ANSWER

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:  # noqa: ARG002 - any request will do
        await self._pass_gate()
        return LIKELIHOOD

    async def _pass_gate(self) -> None:
        self.requests += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        self.gate.clear()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class TestCache:
    async def test_the_second_answer_is_free(self, cache: ResponseCache) -> None:
        engine = ScriptedEngine(lambda _: ANSWER)
        caching = CachingEngine(engine, cache)
        assert await caching.complete(REQUEST) == ANSWER
        assert await caching.complete(REQUEST) == FREE
        assert engine.requests == 1

    async def test_another_run_finds_the_answer(self, cache: ResponseCache) -> None:
        first = CachingEngine(ScriptedEngine(lambda _: ANSWER), cache)
        await first.complete(REQUEST)
        await first.aclose()
        engine = ScriptedEngine()
        assert await CachingEngine(engine, cache).complete(REQUEST) == FREE
        assert engine.requests == 0

    async def test_models_do_not_share_answers(self, cache: ResponseCache) -> None:
        await CachingEngine(ScriptedEngine(lambda _: ANSWER), cache).complete(REQUEST)
        other = CachingEngine(ScriptedEngine(lambda _: "another reply", model="other"), cache)
        assert (await other.complete(REQUEST)).text == "another reply"

    @pytest.mark.parametrize(
        "answer",
        [
            Completion(None, "stop"),
            Completion("", "stop"),
            Completion("reply", None),
            Completion("rep", "max_tokens"),
            Completion("reply", "abort"),
            Completion("reply", "content_filter"),
            Completion("reply", "tool_calls"),
            Completion("reply", repeatable=False),
            Completion("reply", others=(Completion("reply", "error"),)),
        ],
    )
    async def test_incomplete_answers_are_not_kept(self, cache: ResponseCache, answer: Completion) -> None:
        engine = ScriptedEngine(lambda _: answer)
        caching = CachingEngine(engine, cache)
        assert [await caching.complete(REQUEST) for _ in range(2)] == [answer, answer]
        assert engine.requests == 2

    async def test_what_should_not_have_been_kept_is_asked_again(self, cache: ResponseCache) -> None:
        engine = ScriptedEngine(lambda _: ANSWER)
        cache.put(cache_key(engine.identity, REQUEST), Completion("rep", "abort"))
        assert await CachingEngine(engine, cache).complete(REQUEST) == ANSWER

    async def test_sampled_answers_are_neither_kept_nor_shared(self, cache: ResponseCache) -> None:
        engine = ScriptedEngine(latency_seconds=0.001)
        caching = CachingEngine(engine, cache)
        await asyncio.gather(*(caching.complete(UNREPEATABLE) for _ in range(3)))
        assert engine.requests == 3
        assert cache.info().entries == 0

    async def test_answers_are_written_soon_without_being_closed(self, cache: ResponseCache) -> None:
        caching = CachingEngine(ScriptedEngine(), cache)
        await caching.complete(REQUEST)
        assert count_entries(cache) == 0
        await asyncio.sleep(FLUSH_SECONDS + 0.1)
        assert count_entries(cache) == 1
        await caching.complete(replace(REQUEST, sampling=Sampling(max_tokens=3)))
        await asyncio.sleep(FLUSH_SECONDS + 0.1)
        assert count_entries(cache) == 2


class TestSharing:
    @pytest.mark.parametrize("cached", [True, False])
    async def test_identical_requests_in_flight_are_asked_once(self, cache: ResponseCache, *, cached: bool) -> None:
        engine = GatedEngine()
        caching = CachingEngine(engine, cache if cached else None)
        tasks = [asyncio.ensure_future(caching.complete(REQUEST)) for _ in range(3)]
        await settle()
        engine.gate.set()
        assert await asyncio.gather(*tasks) == [ANSWER, FREE, FREE]
        assert engine.requests == 1

    async def test_requests_that_differ_anywhere_are_asked_apart(self) -> None:
        engine = GatedEngine()
        caching = CachingEngine(engine, None)
        system = (Message("system", "Infer."), *REQUEST.messages)
        others = [replace(REQUEST, messages=system), replace(REQUEST, sampling=Sampling(max_tokens=3))]
        tasks = [asyncio.ensure_future(caching.complete(request)) for request in (REQUEST, *others)]
        await settle()
        engine.gate.set()
        assert await asyncio.gather(*tasks) == [ANSWER] * 3
        assert engine.requests == 3

    async def test_without_a_cache_a_later_request_is_asked_again(self) -> None:
        engine = ScriptedEngine()
        caching = CachingEngine(engine, None)
        await caching.complete(REQUEST)
        assert (await caching.complete(REQUEST)).cached is False
        assert engine.requests == 2

    async def test_a_failure_reaches_everybody_and_is_not_kept(self, cache: ResponseCache) -> None:
        engine = GatedEngine(EngineServerError("broken"))
        caching = CachingEngine(engine, cache)
        tasks = [asyncio.ensure_future(caching.complete(REQUEST)) for _ in range(3)]
        await settle()
        engine.gate.set()
        assert await asyncio.gather(*tasks, return_exceptions=True) == [engine.failure] * 3
        engine.failure = None
        assert await caching.complete(REQUEST) == ANSWER
        assert engine.requests == 2

    async def test_when_the_one_who_asks_is_cancelled_another_takes_over(self, cache: ResponseCache) -> None:
        engine = GatedEngine()
        caching = CachingEngine(engine, cache)
        tasks = [asyncio.ensure_future(caching.complete(REQUEST)) for _ in range(3)]
        await settle()
        tasks[0].cancel()
        await settle()
        engine.gate.set()
        assert await asyncio.gather(*tasks[1:]) == [ANSWER, FREE]
        assert tasks[0].cancelled()
        assert engine.requests == 2

    async def test_cancelling_one_who_waits_disturbs_nobody(self) -> None:
        engine = GatedEngine()
        caching = CachingEngine(engine, None)
        tasks = [asyncio.ensure_future(caching.complete(REQUEST)) for _ in range(3)]
        await settle()
        tasks[1].cancel()
        await settle()
        engine.gate.set()
        assert [await tasks[0], await tasks[2]] == [ANSWER, FREE]
        assert tasks[1].cancelled()
        assert engine.requests == 1

    async def test_all_can_be_cancelled(self) -> None:
        engine = GatedEngine()
        caching = CachingEngine(engine, None)
        tasks = [asyncio.ensure_future(caching.complete(REQUEST)) for _ in range(3)]
        await settle()
        for task in tasks:
            task.cancel()
        await settle()
        assert all(task.cancelled() for task in tasks)
        engine.gate.set()
        assert await caching.complete(REQUEST) == ANSWER

    def test_event_loops_share_no_requests_in_flight(self) -> None:
        engine = ScriptedEngine(latency_seconds=0.001)
        caching = CachingEngine(engine, None)
        assert [asyncio.run(caching.complete(REQUEST)).cached for _ in range(2)] == [False, False]


def test_it_goes_by_the_name_of_the_engine_inside() -> None:
    caching = CachingEngine(ScriptedEngine(model="small"), None)
    assert (caching.model, caching.identity) == ("small", "scripted/small")


async def test_log_probabilities_are_shared_and_kept_like_completions(cache: ResponseCache) -> None:
    engine = GatedEngine()
    caching = CachingEngine(engine, cache)
    question = LogprobRequest("Apples. The question was:", " Which fruit?")
    waiting = [asyncio.create_task(caching.logprobs(question)) for _ in range(3)]
    await settle()
    engine.gate.set()
    answers = await asyncio.gather(*waiting)
    assert [answer.values for answer in answers] == [LIKELIHOOD.values] * 3
    assert [answer.cached for answer in answers] == [False, True, True]
    assert engine.requests == 1
    kept = await caching.logprobs(question)
    assert kept == replace(LIKELIHOOD, attempts=0, cached=True, usage=Usage())
    await caching.logprobs(LogprobRequest("Apples. The question was: ", "Which fruit?"))
    assert engine.requests == 2


async def test_all_samples_of_a_request_are_kept(cache: ResponseCache) -> None:
    engine = ScriptedEngine(lambda request: f"reply {request.sampling.seed}")
    request = Request((Message("user", "Hello"),), Sampling(temperature=1.0, seed=5), n=3)
    first = await CachingEngine(engine, cache).complete(request)
    again = await CachingEngine(engine, cache).complete(request)
    assert [reply.text for reply in (first, *first.others)] == ["reply 5", "reply 6", "reply 7"]
    assert [reply.text for reply in (again, *again.others)] == ["reply 5", "reply 6", "reply 7"]
    assert (engine.requests, again.cached) == (3, True)
