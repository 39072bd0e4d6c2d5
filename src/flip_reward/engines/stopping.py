"""`StopSignal`: work that is asked to stop finishes the requests in flight, and drops those that still wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from flip_reward.errors import RequestDroppedError

_LOOK_SECONDS = 0.2

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class StopSignal:
    """Asks work to finish its requests in flight and start no more.

    Tasks for which it is the `current_stop` obey it, and so do those that they start.
    """

    requested: bool = False
    in_flight: int = 0
    """How many requests are being answered."""

    def check(self) -> None:
        """Raise a RequestDroppedError where no request may be started any more."""
        if self.requested:
            raise RequestDroppedError("not asked: the run was stopped")

    async def start(self, call: Callable[[Question], Awaitable[Answer]], request: Question) -> Answer:
        """Answer a request by `call`, if one may still be started."""
        self.check()
        self.in_flight += 1
        try:
            return await call(request)
        finally:
            self.in_flight -= 1


current_stop: ContextVar[StopSignal | None] = ContextVar("current_stop", default=None)
"""The signal that the running task obeys."""


async def pause(seconds: float) -> None:
    """Wait, and raise a RequestDroppedError as soon as the work is to stop."""
    stop = current_stop.get()
    while stop is not None and seconds > _LOOK_SECONDS:
        stop.check()
        await asyncio.sleep(_LOOK_SECONDS)
        seconds -= _LOOK_SECONDS
    await asyncio.sleep(seconds)
