"""The whole stack against a server that fails: what can be answered is, and nothing is asked in vain."""

from __future__ import annotations

import asyncio

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, Engine, Request
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.engines.scripted import echo_last_words
from flip_reward.errors import ContextTooLongError, EngineUnavailableError, RequestRefusedError
from tests.http.fault_server import (
    TRANSIENT,
    Choose,
    Fault,
    FaultServer,
    at_first,
    by_chance,
    from_then_on,
    patience,
)

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


REFUSALS = (Fault.REFUSED, Fault.FORBIDDEN, Fault.UNPROCESSABLE)


def refuse(word: str, fault: Fault) -> Choose:
    return lambda prompt, _number: fault if word in prompt else None


@pytest.mark.parametrize("fault", [*REFUSALS, Fault.CONTEXT_TOO_LONG])
async def test_a_refusal_is_not_asked_again(fault: Fault) -> None:
    with FaultServer(refuse("hello", fault)) as server:
        engine = stack(server)
        with pytest.raises((RequestRefusedError, ContextTooLongError)) as caught:
            await engine.complete(ask("hello"))
        await engine.aclose()
        assert caught.value.attempts == 1
        assert server.requests["hello"] == 1


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("answered", [0, 3])
async def test_a_server_that_refuses_whatever_it_is_asked_will_not_answer(fault: Fault, answered: int) -> None:
    with FaultServer(from_then_on(fault, after=answered)) as server:
        engine = stack(server)
        for number in range(answered):
            await engine.complete(ask(f"row {number}"))
        with pytest.raises(EngineUnavailableError, match=f"injected {fault}") as caught:
            await engine.complete(ask("hello"))
        await engine.aclose()
        assert caught.value.attempts == 1
        assert isinstance(caught.value.__cause__, RequestRefusedError)


async def test_refusals_that_come_together_cost_few_harmless_requests() -> None:
    with FaultServer(refuse("storm", Fault.REFUSED), latency_seconds=0.02) as server:
        engine = stack(server)
        asked = [ask(f"storm {number}") for number in range(64)]
        failures = await asyncio.gather(*map(engine.complete, asked), return_exceptions=True)
        await engine.aclose()
        assert {type(failure) for failure in failures} == {RequestRefusedError}
        assert server.requests.total() <= 64 + 16


async def test_a_server_that_refuses_at_random_is_not_given_up() -> None:
    with FaultServer(by_chance({Fault.REFUSED: 0.3}, seed=3)) as server:
        engine = stack(server)
        asked = [ask(f"row {number}") for number in range(60)]
        answers = await asyncio.gather(*map(engine.complete, asked), return_exceptions=True)
        await engine.aclose()
        assert {type(answer) for answer in answers} == {Completion, RequestRefusedError}


async def test_a_refusal_stays_open_while_the_server_fails_in_another_way() -> None:
    def choose(prompt: str, number: int) -> Fault | None:
        if prompt == "hello":
            return Fault.REFUSED
        return Fault.UNAVAILABLE if number <= 2 else None

    with FaultServer(choose) as server:
        engine = stack(server)
        with pytest.raises(RequestRefusedError) as caught:
            await engine.complete(ask("hello"))
        await engine.aclose()
        assert caught.value.attempts == server.requests["hello"] == 3


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
