from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, LogprobRequest, Request, TokenLogprobs
from flip_reward.engines.middleware import LimitedEngine
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineBusyError, EngineServerError, EngineTimeoutError, OptionError


def ask(content: str = "hello") -> Request:
    return Request((Message("user", content),))


class SteppedEngine:
    """Answers nothing until it is told to, so that a test decides the order of events."""

    model = identity = "stepped"

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[Completion]] = {}
        self.started: list[str] = []

    async def complete(self, request: Request) -> Completion:
        content = request.messages[-1].content
        self.started.append(content)
        self.waiting[content] = asyncio.get_running_loop().create_future()
        try:
            return await self.waiting[content]
        finally:
            del self.waiting[content]

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        raise AssertionError(f"nobody asks for {request}")

    async def aclose(self) -> None:
        self.started.clear()

    async def answer(self, content: str) -> None:
        self.waiting[content].set_result(Completion("reply"))
        await settle()

    async def fail(self, content: str, error: Exception) -> None:
        self.waiting[content].set_exception(error)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def start(limited: LimitedEngine, names: str) -> dict[str, asyncio.Task[Completion]]:
    tasks = {name: asyncio.ensure_future(limited.complete(ask(name))) for name in names}
    await settle()
    return tasks


async def test_requests_over_the_limit_wait_and_start_in_order() -> None:
    engine = SteppedEngine()
    tasks = await start(LimitedEngine(engine, 2), "abcde")
    assert engine.started == ["a", "b"]
    await engine.answer("b")
    await engine.answer("c")
    await engine.answer("a")
    assert engine.started == ["a", "b", "c", "d", "e"]
    await engine.answer("d")
    await engine.answer("e")
    assert all(task.done() for task in tasks.values())


@pytest.mark.parametrize("error", [EngineBusyError("busy"), EngineTimeoutError("slow")])
async def test_requests_that_were_in_flight_together_halve_the_limit_once(error: Exception) -> None:
    engine = SteppedEngine()
    limited = LimitedEngine(engine, 8)
    tasks = await start(limited, "abcdefgh")
    for name in "abc":
        await engine.fail(name, error)
    assert limited.limit == 4
    for name in "defgh":
        await engine.answer(name)
    later = await start(limited, "i")
    await engine.fail("i", error)
    assert limited.limit == 2
    await asyncio.gather(*tasks.values(), *later.values(), return_exceptions=True)


async def test_the_limit_never_falls_below_one() -> None:
    engine = SteppedEngine()
    limited = LimitedEngine(engine, 2)
    for name in "abc":
        (task,) = (await start(limited, name)).values()
        await engine.fail(name, EngineBusyError("busy"))
        assert isinstance(task.exception(), EngineBusyError)
    assert limited.limit == 1


async def test_other_failures_leave_the_limit_alone() -> None:
    engine = SteppedEngine()
    limited = LimitedEngine(engine, 8)
    (task,) = (await start(limited, "a")).values()
    await engine.fail("a", EngineServerError("broken"))
    assert isinstance(task.exception(), EngineServerError)
    assert limited.limit == 8


def busy_at_first() -> ScriptedEngine:
    def script(_: Request) -> str:
        if engine.requests == 1:
            raise EngineBusyError("busy")
        return "reply"

    engine = ScriptedEngine(script)
    return engine


async def test_the_limit_grows_by_about_one_for_a_round_of_answers_up_to_the_ceiling() -> None:
    limited = LimitedEngine(busy_at_first(), 8)
    with pytest.raises(EngineBusyError):
        await limited.complete(ask())
    limits = []
    for _ in range(40):
        await limited.complete(ask())
        limits.append(limited.limit)
    assert limits[3] == 4
    assert limits[4] == 5
    assert limits[-1] == 8
    assert limits == sorted(limits)


async def test_a_halved_limit_holds_requests_back() -> None:
    engine = SteppedEngine()
    limited = LimitedEngine(engine, 4)
    tasks = await start(limited, "abcdef")
    await engine.fail("a", EngineBusyError("busy"))  # three are left in flight, and the limit is two
    assert engine.started == list("abcd")
    await engine.answer("b")
    assert engine.started == list("abcd")
    await engine.answer("c")
    assert engine.started == list("abcde")
    for name in "def":
        await engine.answer(name)
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_cancelled_requests_lose_no_place(*, cancel_first: bool) -> None:
    engine = SteppedEngine()
    tasks = await start(LimitedEngine(engine, 1), "abcd")
    if cancel_first:
        tasks["b"].cancel()
        engine.waiting["a"].set_result(Completion("reply"))
    else:
        engine.waiting["a"].set_result(Completion("reply"))
        await asyncio.sleep(0)  # "a" gives its place to "b", which has not run since
        tasks["b"].cancel()
    await settle()
    assert tasks["b"].cancelled()
    assert engine.started == ["a", "c"]
    tasks["c"].cancel()
    await settle()
    assert engine.started == ["a", "c", "d"]
    await engine.answer("d")
    assert tasks["d"].done()


async def test_all_who_wait_can_be_cancelled() -> None:
    engine = SteppedEngine()
    limited = LimitedEngine(engine, 1)
    tasks = await start(limited, "abc")
    for task in tasks.values():
        task.cancel()
    await settle()
    await start(limited, "d")
    assert engine.started == ["a", "d"]
    await engine.answer("d")


def test_every_event_loop_has_its_own_limit_and_is_not_kept_alive() -> None:
    def busy(_: Request) -> str:
        raise EngineBusyError("busy")

    limited = LimitedEngine(ScriptedEngine(busy), 8)

    async def fail() -> tuple[int, weakref.ref[asyncio.AbstractEventLoop]]:
        with pytest.raises(EngineBusyError):
            await limited.complete(ask())
        return limited.limit, weakref.ref(asyncio.get_running_loop())

    (first, loop), (second, _) = asyncio.run(fail()), asyncio.run(fail())
    gc.collect()
    assert (first, second) == (4, 4)
    assert limited.limit == 8
    assert loop() is None


def test_concurrency_below_one_is_refused() -> None:
    with pytest.raises(OptionError):
        LimitedEngine(SteppedEngine(), 0)
