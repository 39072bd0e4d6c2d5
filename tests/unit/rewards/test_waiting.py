from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Score
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.cache import ResponseCache
from flip_reward.engines.middleware import build_stack
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineUnavailableError
from flip_reward.rewards.flip import FlipReward
from flip_reward.rewards.waiting import BackgroundLoop, OncePerProcess

GROUP = Group.of("Name a fruit.", ["A pear is a fruit.", "Bread."])


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
    before = threading.active_count()
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
    assert threading.active_count() == before


def test_threads_that_come_at_once_share_one() -> None:
    made: list[int] = []

    def make() -> int:
        time.sleep(0.05)  # long enough for all threads to come in
        made.append(len(made))
        return len(made)

    once = OncePerProcess(make)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(once())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [0]
    assert results == [1] * 8


def test_a_failure_is_not_kept() -> None:
    attempts: list[str] = []

    def make() -> str:
        attempts.append("once more")
        if len(attempts) == 1:
            raise OSError("the disk is away")
        return "made"

    once = OncePerProcess(make)
    with pytest.raises(OSError, match="away"):
        once()
    assert once() == "made"


def test_what_was_made_can_be_forgotten() -> None:
    once = OncePerProcess(object)
    assert once.forget() == []
    first = once()
    assert once.forget() == [first]
    assert once() is not first


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_makes_its_own() -> None:
    once = OncePerProcess(os.getpid)
    assert once() == os.getpid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"own" if once() == os.getpid() else b"inherited")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"own"
    os.close(reading)
    os.close(writing)


def test_calls_from_threads_and_from_running_loops_share_one_limit() -> None:
    in_flight, most = 0, 0

    class Counting(ScriptedEngine):
        async def complete(self, request: Request) -> Completion:
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)
            await asyncio.sleep(0.01)
            in_flight -= 1
            return await super().complete(request)

    reward = FlipReward(build_stack(Counting(), concurrency=3))
    groups = [Group.of(f"Question {number}", f"Answer {number}") for number in range(24)]

    def score(group: Group) -> float | None:
        return reward.score_sync([group])[0][0].value

    with ThreadPoolExecutor(8) as threads:
        values = list(threads.map(score, groups))

    async def notebook() -> float | None:
        return score(groups[0])

    assert asyncio.run(notebook()) == values[0]
    assert most == 3


def test_a_reward_may_ask_another_one_in_between() -> None:
    inner = FlipReward(ScriptedEngine())

    class Halved(FlipReward):
        async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
            [scores] = inner.score_sync([Group.of(target.instruction, group.responses)])
            return tuple(replace(score, value=(score.value or 0) / 2) for score in scores)

    group = Group.of("Name a fruit.", "A pear is a fruit.")
    [[whole]], [[half]] = inner.score_sync([group]), Halved(ScriptedEngine()).score_sync([group])
    assert whole.value is not None
    assert half.value == whole.value / 2


def run_program(program: str, *, interrupt: bool = False) -> str:
    process = subprocess.Popen(
        [sys.executable, "-W", "always::ResourceWarning", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    if interrupt:
        printed = process.stdout.readline()
        process.send_signal(signal.SIGINT)
    printed += process.communicate(timeout=30)[0]
    return printed


def test_the_process_ends_by_itself_and_writes_what_is_cached(tmp_path: Path) -> None:
    program = (
        "from flip_reward import FlipReward, Group, ScriptedEngine\n"
        "from flip_reward.engines.cache import ResponseCache\n"
        "from flip_reward.engines.middleware import build_stack\n"
        f"engine = build_stack(ScriptedEngine(), cache=ResponseCache({str(tmp_path / 'cache')!r}))\n"
        "print(FlipReward(engine).score_sync([Group.of('Hi.', 'Hello.')])[0][0].outcome)\n"
    )
    assert run_program(program) == "scored\n"
    with ResponseCache(tmp_path / "cache") as cache:
        assert cache.info().entries == 1


def test_ctrl_c_is_raised_at_once() -> None:
    program = (
        "import asyncio\n"
        "from flip_reward import FlipReward, Group, ScriptedEngine\n"
        "class Slow(ScriptedEngine):\n"
        "    async def complete(self, request):\n"
        "        print('asked', flush=True)\n"
        "        await asyncio.sleep(3600)\n"
        "try:\n"
        "    FlipReward(Slow()).score_sync([Group.of('Hi.', 'Hello.')])\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    assert run_program(program, interrupt=True) == "asked\ninterrupted\n"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_scores_on_a_loop_of_its_own(tmp_path: Path) -> None:
    reward = FlipReward(build_stack(ScriptedEngine(), cache=ResponseCache(tmp_path / "cache")))
    group = Group.of("Name a fruit.", "A pear is a fruit.")
    [[before]] = reward.score_sync([group])
    loop = BackgroundLoop()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        [[after]] = reward.score_sync([group, Group.of("Hi.", "Hello.")])[:1]
        with pytest.raises(EngineUnavailableError, match="forked"):
            loop.run(running_loop())
        loop.close()
        os.write(writing, repr(after.value).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == repr(before.value).encode()
    os.close(reading)
    os.close(writing)
    loop.close()
    reward.close()


def test_a_reward_is_closed_at_the_end_of_a_block_and_may_be_used_again() -> None:
    class Closing(ScriptedEngine):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    engine = Closing()

    async def block() -> None:
        async with FlipReward(engine) as reward:
            await reward.score([GROUP])

    with FlipReward(engine) as reward:
        first = reward.score_sync([GROUP])
        assert engine.closed == 0
    assert engine.closed == 1
    assert [[score.value for score in scores] for scores in reward.score_sync([GROUP])] == [
        [score.value for score in scores] for scores in first
    ]
    asyncio.run(block())
    assert engine.closed == 2
