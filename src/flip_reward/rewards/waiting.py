"""Waiting for what is asked: for everything at once, and from synchronous code, on one loop in the background."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from flip_reward.errors import EngineUnavailableError, RequestDroppedError

T = TypeVar("T")

_CLOSING_SECONDS = 5.0
"""How long work that was cancelled may take to end: the process must not hang for it."""


async def gather_all(work: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """Await everything at once, in order. The first error cancels the rest and is raised as it is.

    Where a request was dropped, the others that are in flight are finished first: their answers may be kept.
    """
    create_task = asyncio.get_running_loop().create_task
    tasks = [create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except RequestDroppedError:
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


class BackgroundLoop:
    """An event loop in a thread of its own.

    Some trainers call a reward from a plain function, some inside a running event loop that it must not run, and some
    with `asyncio.run`, a new loop at each call. Work handed over here always meets the same loop, so connections stay
    open from call to call, and a limit on requests in flight holds for the whole process.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process_id = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="flip-reward", daemon=True)
        self._thread.start()

    @property
    def own(self) -> bool:
        """Whether it runs in this process: a thread stays behind in the process that was forked."""
        return self._process_id == os.getpid()

    @property
    def is_running_this(self) -> bool:
        """Whether the caller is work of this loop, which cannot wait for the loop."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Wait for the work's result, from synchronous code. An interrupt (Ctrl-C) cancels the work."""
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def join(self, work: Coroutine[object, object, T]) -> T:
        """Wait for the work's result, from any event loop. Whoever is cancelled while waiting cancels the work."""
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Coroutine[object, object, T]) -> Future[T]:
        if not self.own:
            work.close()
            raise EngineUnavailableError(
                "the reward belongs to the process that this one was forked from", hint="load it in this process"
            )
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel the work that is left, and end the thread. In a forked process there is nothing to end."""
        if not self.own or self._loop.is_closed():
            return
        try:
            self._submit(_cancel_the_others()).result(_CLOSING_SECONDS)
        except TimeoutError:
            return  # somebody's code holds it: the thread ends with the process
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class OncePerProcess(Generic[T]):
    """Calls a function once in each process and gives its result to every caller, as `functools.cache` does in one.

    Threads that come at once wait for the first of them, so that a model is not loaded twice. A forked process makes
    its own, because threads and connections do not survive a fork. After a call that fails the next one tries again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._results: dict[int, _Result[T]] = {}

    def __call__(self) -> T:
        """Return this process's result; make it first where there is none."""
        # `setdefault` is a single step. A lock here could be held by another thread at the moment of a fork, and the
        # new process would wait for it for ever.
        process_id = os.getpid()
        result = self._results.get(process_id) or self._results.setdefault(process_id, _Result())
        with result.lock:
            if not result.made:
                result.made.append(self._make())
            return result.made[0]

    def forget(self) -> list[T]:
        """Let the next call of this process make it again; return what was made, one thing or none, to be closed."""
        result = self._results.pop(os.getpid(), None)
        return result.made if result else []


class _Result(Generic[T]):
    """What one process has made, one thing or none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[T] = []


def _open_loop() -> BackgroundLoop:
    loop = BackgroundLoop()
    atexit.register(loop.close)  # connections are closed, and what was cached is written
    return loop


_loop_of_process = OncePerProcess(_open_loop)


def run_blocking(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine from synchronous code, from any thread, also inside a running event loop (a notebook)."""
    loop = _loop_of_process()
    if not loop.is_running_this:
        return loop.run(work)
    with ThreadPoolExecutor(max_workers=1) as thread:  # a reward that asks another one in between
        return thread.submit(asyncio.run, work).result()
