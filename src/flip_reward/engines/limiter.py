"""`LimitedEngine`: how many requests are in flight at once, adapted to what the server can take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

from flip_reward.engines.base import Engine
from flip_reward.engines.layers import Answer, EngineLayer, Question
from flip_reward.errors import EngineBusyError, EngineTimeoutError, OptionError


class LimitedEngine(EngineLayer):
    """Keeps the number of requests in flight under a limit that adapts.

    The limit starts at `concurrency`. It is halved when the server is busy (429, 425) or a request times out, at most
    once for the requests that were in flight together, and grows by about one for every round of answers: additive
    increase, multiplicative decrease, as in TCP congestion avoidance (RFC 5681). Requests start in the order they
    came. Each running event loop has a limit of its own.

    Args:
        engine: The engine inside.
        concurrency: The most requests in flight, at least 1.

    Raises:
        OptionError: `concurrency` is below 1.

    Example:
        >>> from flip_reward.engines.scripted import ScriptedEngine
        >>> LimitedEngine(ScriptedEngine(), 64).limit
        64
    """

    def __init__(self, engine: Engine, concurrency: int) -> None:
        if concurrency < 1:
            raise OptionError(f"concurrency must be at least 1, not {concurrency}")
        super().__init__(engine)
        self._ceiling = concurrency
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, _Gate] = WeakKeyDictionary()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now in the running event loop; outside of one, `concurrency`."""
        try:
            gate = self._gates.get(asyncio.get_running_loop())
        except RuntimeError:
            gate = None
        return int(gate.limit) if gate else self._ceiling

    async def _pass_on(self, question: Question, ask: Callable[[Question], Awaitable[Answer]]) -> Answer:
        """Wait for a place, then ask the engine inside."""
        loop = asyncio.get_running_loop()
        gate = self._gates.get(loop)
        if gate is None:
            gate = self._gates[loop] = _Gate(self._ceiling)
        if not gate.try_enter():
            await gate.enter(loop)
        number = gate.started
        try:
            answer = await ask(question)
        except (EngineBusyError, EngineTimeoutError):
            gate.shrink(number)
            raise
        else:
            gate.grow()
            return answer
        finally:
            gate.leave()


class _Gate:
    """The places of one event loop. Nobody waits while a place is free."""

    def __init__(self, ceiling: int) -> None:
        self.limit = float(ceiling)
        self.started = 0
        self._ceiling = ceiling
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._started_before_shrinking = 0

    def try_enter(self) -> bool:
        """Take a place if one is free."""
        if self._in_flight + 1 > self.limit:
            return False
        self._in_flight += 1
        self.started += 1
        return True

    async def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for a place and take it."""
        place = loop.create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # the place was given in the same turn of the loop: pass it on
                self.leave()
            elif place in self._waiting:
                self._waiting.remove(place)
            raise

    def leave(self) -> None:
        """Give the place back, and let in those who now fit."""
        self._in_flight -= 1
        while self._waiting and self._in_flight + 1 <= self.limit:
            place = self._waiting.popleft()
            if not place.done():  # else it was cancelled, and its task has not run yet
                self.try_enter()
                place.set_result(None)

    def grow(self) -> None:
        """Count an answer: `limit` answers in a row make one place more."""
        if self.limit < self._ceiling:
            self.limit = min(self.limit + 1 / self.limit, float(self._ceiling))

    def shrink(self, number: int) -> None:
        """Halve the limit, unless request `number` began before it was last halved: that news is already known."""
        if number > self._started_before_shrinking:
            self.limit = max(self.limit / 2, 1.0)
            self._started_before_shrinking = self.started
