"""The whole stack against a server that fails: what can be answered is, and nothing is asked in vain."""

from __future__ import annotations

import asyncio

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Engine, Request
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import FAILURES_BEFORE_GIVING_UP, RetryPolicy, build_stack
from flip_reward.engines.scripted import echo_last_words
from flip_reward.errors import EngineError, EngineUnavailableError, RequestRefusedError
from tests.http.fault_server import TRANSIENT, Fault, FaultServer, at_first, by_chance, patience

HASTY = RetryPolicy(max_attempts=12, first_wait_seconds=0.001, max_wait_seconds=0.005)


def stack(server: FaultServer, timeout_seconds: float = 30.0) -> Engine:
    engine = HttpEngine(server.base_url, server.model, timeout_seconds=timeout_seconds)
    return build_stack(engine, concurrency=16, retry=HASTY)


def ask(content: str) -> Request:
    return Request((Message("user", content),))


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_a_passing_fault_costs_one_more_attempt(fault: Fault) -> None:
    with FaultServer(at_first(fault)) as server:
        engine = stack(server, patience(fault))
        completion = await engine.complete(ask("Apples, pears and plums."))
        await engine.aclose()
        assert completion.text == echo_last_words(ask("Apples, pears and plums."))
        assert completion.attempts == 2
        assert server.requests.total() == 2


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNPROCESSABLE, Fault.CONTEXT_TOO_LONG])
async def test_a_refusal_is_not_asked_again(fault: Fault) -> None:
    with FaultServer(lambda _prompt, _number: fault) as server:
        engine = stack(server)
        with pytest.raises(EngineError) as caught:
            await engine.complete(ask("hello"))
        await engine.aclose()
        assert caught.value.attempts == 1
        assert server.requests.total() == 1


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_every_row_is_answered_when_a_fifth_of_the_requests_fails(fault: Fault) -> None:
    rows = [f"row {index} of the table" for index in range(40)]
    with FaultServer(by_chance({fault: 0.2}, seed=7)) as server:
        engine = stack(server, patience(fault))
        completions = await asyncio.gather(*(engine.complete(ask(row)) for row in rows))
        await engine.aclose()
        assert [completion.text for completion in completions] == [echo_last_words(ask(row)) for row in rows]
        assert server.injected[fault] > 0
        assert [completion.attempts for completion in completions] == [server.requests[row] for row in rows]


async def test_concurrency_is_a_ceiling() -> None:
    with FaultServer(latency_seconds=0.01) as server:
        engine = build_stack(HttpEngine(server.base_url, server.model), concurrency=5)
        await asyncio.gather(*(engine.complete(ask(f"row {index}")) for index in range(30)))
        await engine.aclose()
        assert server.most_in_flight == 5


async def test_a_wrong_key_ends_at_once() -> None:
    with FaultServer(api_key="another key") as server:
        engine = stack(server)
        with pytest.raises(EngineUnavailableError) as caught:
            await engine.complete(ask("hello"))
        await engine.aclose()
        assert caught.value.attempts == 1
        assert len(server.received) == 1


async def test_a_server_that_refuses_everything_ends_the_run() -> None:
    with FaultServer(lambda _prompt, _number: Fault.REFUSED) as server:
        engine = stack(server)
        rows = [ask(f"row {index}") for index in range(FAILURES_BEFORE_GIVING_UP)]
        *failures, last = await asyncio.gather(*map(engine.complete, rows), return_exceptions=True)
        await engine.aclose()
        assert {type(failure) for failure in failures} == {RequestRefusedError}
        assert isinstance(last, EngineUnavailableError)
        assert "injected 400" in str(last)
