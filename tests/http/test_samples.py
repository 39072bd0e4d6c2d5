"""Several samples over HTTP: in one request where the server can, one by one where it cannot."""

from __future__ import annotations

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, Request, Sampling, Usage
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.errors import EngineServerError, RequestRefusedError
from tests.http.fault_server import Choose, Fault, FaultServer, at_first, never


def ask(samples: int, *, temperature: float = 1.0, seed: int | None = 7) -> Request:
    return Request((Message("user", "Apples."),), Sampling(temperature, seed=seed), n=samples)


def say_seed(request: Request) -> str:
    return f"sample {request.sampling.seed}"


def serve(most_choices: int, choose: Choose = never) -> FaultServer:
    return FaultServer(choose, script=say_seed, most_choices=most_choices)


def texts(completion: Completion) -> list[str | None]:
    return [reply.text for reply in (completion, *completion.others)]


async def test_one_request_draws_them_all() -> None:
    with serve(most_choices=8) as server:
        engine = HttpEngine(server.base_url, server.model)
        completion = await engine.complete(ask(4))
        await engine.aclose()
        (received,) = server.received
    assert received.body["n"] == 4
    assert received.body["seed"] == 7
    assert texts(completion) == ["sample 7", "sample 8", "sample 9", "sample 10"]
    assert completion.usage == Usage(1, 8), "the prompt is counted once, as the server counts it"
    assert {other.usage for other in completion.others} == {Usage()}


@pytest.mark.parametrize("most_choices", [1, 3])
async def test_missing_ones_are_asked_for_one_by_one(most_choices: int) -> None:
    with serve(most_choices) as server:
        engine = HttpEngine(server.base_url, server.model)
        completion = await engine.complete(ask(4))
        assert texts(completion) == ["sample 7", "sample 8", "sample 9", "sample 10"]
        first, *others = server.received
        assert first.body["n"] == 4
        assert [received.body["seed"] for received in others] == list(range(7 + most_choices, 11))
        assert not any("n" in received.body for received in others)
        assert completion.usage == Usage(5 - most_choices, 8)

        server.received.clear()
        assert texts(await engine.complete(ask(4))) == texts(completion)
        assert not any("n" in received.body for received in server.received), "it is not asked in vain again"
        await engine.aclose()


async def test_without_a_seed_none_is_sent() -> None:
    with serve(most_choices=1) as server:
        engine = HttpEngine(server.base_url, server.model)
        assert texts(await engine.complete(ask(2, seed=None))) == ["sample None", "sample None"]
        await engine.aclose()
        assert not any("seed" in received.body for received in server.received)


async def test_the_likeliest_reply_is_not_asked_for_with_n() -> None:
    with serve(most_choices=8) as server:
        engine = HttpEngine(server.base_url, server.model)
        assert len((await engine.complete(ask(2, temperature=0))).others) == 1
        assert not any("n" in received.body for received in server.received)
        await engine.complete(ask(2))
        assert server.received[-1].body["n"] == 2, "that says nothing about what the server can"
        await engine.aclose()


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNPROCESSABLE, Fault.ONE_CHOICE])
async def test_a_server_that_refuses_n_is_asked_one_by_one(fault: Fault) -> None:
    with serve(8, at_first(fault)) as server:
        engine = HttpEngine(server.base_url, server.model)
        assert texts(await engine.complete(ask(2))) == ["sample 7", "sample 8"]
        assert ["n" in received.body for received in server.received] == [True, False, False]
        await engine.complete(ask(2))
        assert "n" not in server.received[-1].body
        await engine.aclose()


async def test_a_server_that_refuses_everything_is_not_thought_to_refuse_n() -> None:
    with serve(8, at_first(Fault.REFUSED, times=2)) as server:
        engine = HttpEngine(server.base_url, server.model)
        with pytest.raises(RequestRefusedError):
            await engine.complete(ask(2))
        assert len((await engine.complete(ask(2))).others) == 1
        assert server.received[-1].body["n"] == 2
        await engine.aclose()


async def test_another_failure_is_the_failure_of_the_request() -> None:
    with serve(8, at_first(Fault.SERVER_ERROR)) as server:
        engine = HttpEngine(server.base_url, server.model)
        with pytest.raises(EngineServerError):
            await engine.complete(ask(2))
        await engine.aclose()
        assert len(server.received) == 1


async def test_more_replies_than_asked_for_are_left_out() -> None:
    with serve(most_choices=8) as server:
        engine = HttpEngine(server.base_url, server.model, extra_body={"n": 3})
        assert (await engine.complete(ask(1))).others == ()
        assert texts(await engine.complete(ask(2))) == ["sample 7", "sample 8"]
        await engine.aclose()
