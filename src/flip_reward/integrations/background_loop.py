"""`BackgroundLoop`: asynchronous work for callers that block, or that have event loops of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """An event loop in a thread of its own.

    Some trainers call a reward from a plain function, some from inside a running event loop that it must not run, and
    some with `asyncio.run`, a new loop at each call. Work handed over here always meets the same loop, so connections
    stay open from call to call, and a limit on requests in flight holds for the whole process.

    Example:
        >>> async def double(number):
        ...     return 2 * number
        >>> loop = BackgroundLoop()
        >>> loop.run(double(4))
        8
        >>> asyncio.run(loop.join(double(5)))
        10
        >>> loop.close()
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="flip-reward", daemon=True)
        self._thread.start()

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
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End the thread. What is still in work is cancelled."""
        self.run(_cancel_the_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
