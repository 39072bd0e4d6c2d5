from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from flip_reward.integrations.base import BackgroundLoop


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    loop = BackgroundLoop()
    yield loop
    loop.close()


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def test_callers_of_every_kind_meet_the_same_loop(loop: BackgroundLoop) -> None:
    below_a_running_loop = loop.run(running_loop())
    awaited = await loop.join(running_loop())
    in_a_thread = await asyncio.to_thread(lambda: asyncio.run(loop.join(running_loop())))
    assert below_a_running_loop is awaited is in_a_thread is not asyncio.get_running_loop()


def test_an_error_reaches_the_caller(loop: BackgroundLoop) -> None:
    async def fail() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        loop.run(fail())
    with pytest.raises(LookupError, match="nothing there"):
        asyncio.run(loop.join(fail()))


async def test_a_caller_that_is_cancelled_cancels_its_work(loop: BackgroundLoop) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise

    caller = asyncio.create_task(loop.join(wait()))
    assert await asyncio.to_thread(begun.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await asyncio.to_thread(ended.wait, 10)


def test_closing_cancels_what_is_left() -> None:
    loop = BackgroundLoop()
    ended = threading.Event()

    async def begin() -> asyncio.Task[None]:
        async def wait() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        return task

    task = loop.run(begin())
    loop.close()
    assert ended.is_set()
    assert task.cancelled()
    assert not any(thread.name == "flip-reward" for thread in threading.enumerate())
