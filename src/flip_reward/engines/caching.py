"""`CachingEngine`: serves answers that are already known, and asks identical requests in flight once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast
from weakref import WeakKeyDictionary

from flip_reward.core.score import Usage
from flip_reward.engines.base import Engine
from flip_reward.engines.cache import ResponseCache, cache_key, is_complete
from flip_reward.engines.layers import Answer, EngineLayer, Question

FLUSH_SECONDS = 0.5
"""An answer waits at most this long to be written to the cache."""


@dataclass(slots=True)
class _LoopState:
    asking: dict[object, asyncio.Future[object]] = field(default_factory=dict)
    """None as a result means that whoever asked was cancelled, and somebody else has to."""
    flush_scheduled: bool = False


class CachingEngine(EngineLayer):
    """Answers from a cache where it can, and shares the answer of a request that is being asked already.

    Only requests whose answer is repeatable (temperature 0, or a seed) are cached and shared. Answers that cost
    nothing have `cached=True`, no attempts and no usage, so that sums stay true. Failures are not kept, but whoever
    waits for a request that fails gets the failure.

    Args:
        engine: The engine inside.
        cache: Where answers are kept. None only shares what is in flight.

    Example:
        >>> import asyncio
        >>> from flip_reward.core.conversation import Message
        >>> from flip_reward.engines.base import Request
        >>> from flip_reward.engines.scripted import ScriptedEngine
        >>> engine = ScriptedEngine(latency_seconds=0.01)
        >>> async def ask_twice():
        ...     caching, request = CachingEngine(engine, None), Request((Message("user", "Hello there"),))
        ...     return await asyncio.gather(caching.complete(request), caching.complete(request))
        >>> [completion.cached for completion in asyncio.run(ask_twice())], engine.requests
        ([False, True], 1)
    """

    def __init__(self, engine: Engine, cache: ResponseCache | None) -> None:
        super().__init__(engine)
        self._cache = cache
        self._states: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = WeakKeyDictionary()

    async def _pass_on(self, question: Question, ask: Callable[[Question], Awaitable[Answer]]) -> Answer:
        """Answer from the cache, from a request in flight, or from the engine inside."""
        if not question.repeatable:
            return await ask(question)
        loop = asyncio.get_running_loop()
        state = self._states.get(loop)
        if state is None:
            state = self._states[loop] = _LoopState()
        # What is kept under a question is an answer of its kind, which no type can say of a mapping.
        asking = cast("dict[Question, asyncio.Future[Answer | None]]", state.asking)
        while (shared := asking.get(question)) is not None:
            answer = await asyncio.shield(shared)
            if answer is not None:
                return replace(answer, usage=Usage(), attempts=0, cached=True)
        if self._cache is None:
            return await _ask(question, ask, asking, loop)
        key = cache_key(self.engine.identity, question)
        kept = cast("Answer | None", self._cache.get(key))
        if kept is not None:
            return kept
        answer = await _ask(question, ask, asking, loop)
        if is_complete(answer):
            self._cache.put(key, answer)
            self._schedule_flush(state, loop, self._cache)
        return answer

    def _schedule_flush(self, state: _LoopState, loop: asyncio.AbstractEventLoop, cache: ResponseCache) -> None:
        if state.flush_scheduled:
            return
        state.flush_scheduled = True

        def flush() -> None:
            state.flush_scheduled = False
            cache.flush()

        loop.call_later(FLUSH_SECONDS, flush)

    async def aclose(self) -> None:
        """Write the cache, let go of its file, and close the engine inside."""
        if self._cache is not None:
            self._cache.close()
        await self.engine.aclose()


async def _ask(
    question: Question,
    ask: Callable[[Question], Awaitable[Answer]],
    asking: dict[Question, asyncio.Future[Answer | None]],
    loop: asyncio.AbstractEventLoop,
) -> Answer:
    """Ask, and let whoever has the same question meanwhile wait for this answer."""
    future = asking[question] = loop.create_future()
    try:
        answer = await ask(question)
    except Exception as error:
        future.set_exception(error)
        future.exception()  # nobody may be waiting, which is no reason for asyncio to complain
        raise
    except BaseException:
        future.set_result(None)
        raise
    else:
        future.set_result(answer)
        return answer
    finally:
        del asking[question]
