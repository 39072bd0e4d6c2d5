from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Engine, Request
from flip_reward.engines.cache import ResponseCache
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineBusyError, OptionError


def ask(content: str) -> Request:
    return Request((Message("user", content),))


async def test_a_stack_is_an_engine() -> None:
    engine = build_stack(ScriptedEngine(model="small"))
    assert isinstance(engine, Engine)
    assert (engine.model, engine.identity) == ("small", "scripted/small")


async def test_a_request_that_waits_to_be_sent_again_gives_its_place_away() -> None:
    order: list[str] = []

    def script(request: Request) -> str:
        content = request.messages[-1].content
        order.append(content)
        if order == ["first"]:
            raise EngineBusyError("busy", retry_after_seconds=0.02)
        return "reply"

    engine = build_stack(ScriptedEngine(script), concurrency=1)
    completions = await asyncio.gather(*(engine.complete(ask(name)) for name in ("first", "second")))
    assert order == ["first", "second", "first"]
    assert [completion.attempts for completion in completions] == [2, 1]


async def test_a_cached_answer_needs_no_place(tmp_path: Path) -> None:
    scripted = ScriptedEngine(latency_seconds=0.001)
    with ResponseCache(tmp_path / "cache.sqlite3") as cache:
        engine = build_stack(scripted, concurrency=1, retry=RetryPolicy(max_attempts=1), cache=cache)
        await engine.complete(ask("known"))
        slow = asyncio.ensure_future(engine.complete(ask("new")))
        await asyncio.sleep(0)
        assert (await engine.complete(ask("known"))).cached
        assert not slow.done()
        await slow
        await engine.aclose()


def test_a_concurrency_below_one_is_refused() -> None:
    with pytest.raises(OptionError):
        build_stack(ScriptedEngine(), concurrency=0)
