"""Ctrl-C once finishes what is in flight; twice stops at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from flip_reward.scoring.runner import StopSignal


@contextmanager
def drain_on_interrupt(stop: StopSignal, tell: Callable[[str], None]) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop, and the second into a cancellation of this task.

    Call it from the task to be cancelled.
    """
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.requested and task is not None:
            loop.call_soon_threadsafe(task.cancel)
            return
        stop.requested = True
        loop.call_soon_threadsafe(tell, "Stopping: finishing what is in flight. Press Ctrl-C again to stop at once.")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stop_after_step(stop: StopSignal, tell: Callable[[str], None]) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop; the second ends the process at once."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        restore()
        stop.requested = True
        tell("Stopping after this step. Press Ctrl-C again to stop at once.")

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()
