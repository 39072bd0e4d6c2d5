"""`EngineLayer`: what every engine around another engine shares.

`LimitedEngine`: how many requests are in flight at once, adapted to what the server can take.

`RetryingEngine`: asks again when that may help, and says early when it never will.

`CachingEngine`: serves answers that are already known, and asks identical requests in flight once.

`build_stack`: an engine with everything around it that a run needs.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakKeyDictionary

from flip_reward.core.score import Usage
from flip_reward.engines.base import Completion, Engine, LogprobRequest, Request, TokenLogprobs
from flip_reward.engines.cache import ResponseCache, cache_key, is_complete
from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    OptionError,
)

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState


Question = TypeVar("Question", Request, LogprobRequest)
Answer = TypeVar("Answer", Completion, TokenLogprobs)


class EngineLayer(ABC):
    """An engine around an engine, which does the same with whatever is asked (`_pass_on`).

    What a layer does never changes an answer, so model and identity are those of the engine inside.

    Args:
        engine: The engine inside.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def model(self) -> str:
        """The model's name, as records show it."""
        return self.engine.model

    @property
    def identity(self) -> str:
        """Everything besides the request that an answer depends on."""
        return self.engine.identity

    # Not `async`: each coroutine more would be one more step on the way of every reward.

    def complete(self, request: Request) -> Coroutine[object, object, Completion]:
        """Answer one request; see `Engine.complete`."""
        return self._pass_on(request, self.engine.complete)

    def logprobs(self, request: LogprobRequest) -> Coroutine[object, object, TokenLogprobs]:
        """Say how likely a continuation is; see `Engine.logprobs`."""
        return self._pass_on(request, self.engine.logprobs)

    async def aclose(self) -> None:
        """Release what the engine inside holds for the running event loop."""
        await self.engine.aclose()

    @abstractmethod
    async def _pass_on(self, question: Question, ask: Callable[[Question], Awaitable[Answer]]) -> Answer:
        """Ask the engine inside.

        Args:
            question: What is asked.
            ask: The method of the engine inside that answers it, with one attempt.
        """


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


FAILURES_BEFORE_GIVING_UP = 20
"""When nothing has ever succeeded, this many requests may fail for good before the run ends."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a request is sent again.

    The wait before attempt n + 1 is drawn evenly from 0 to `first_wait_seconds` x 2^(n-1), at most
    `max_wait_seconds`: exponential backoff with full jitter. What the server asks for in Retry-After comes on top.

    Attributes:
        max_attempts: How many times a request is sent at most, at least 1.
        first_wait_seconds: The longest wait before the second attempt.
        max_wait_seconds: The longest wait of the backoff.
        max_retry_after_seconds: A longer Retry-After is cut to this.
        max_total_seconds: No attempt starts later than this after the first one failed.

    Raises:
        OptionError: `max_attempts` is below 1.
    """

    max_attempts: int = 8
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 30.0
    max_retry_after_seconds: float = 120.0
    max_total_seconds: float = 1800.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise OptionError(f"max_attempts must be at least 1, not {self.max_attempts}")

    def wait_seconds(self, state: RetryCallState) -> float:
        """Draw how long to wait after a failed attempt."""
        from tenacity import wait_random_exponential

        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_seconds if isinstance(error, EngineError) else None
        backoff = wait_random_exponential(multiplier=self.first_wait_seconds, max=self.max_wait_seconds)
        return min(asked or 0.0, self.max_retry_after_seconds) + backoff(state)


class RetryingEngine(EngineLayer):
    """Asks the engine inside again after failures that may pass.

    Args:
        engine: The engine inside.
        policy: How often and how soon.

    Example:
        >>> import asyncio
        >>> from flip_reward.core.conversation import Message
        >>> from flip_reward.engines.base import Request
        >>> from flip_reward.engines.scripted import ScriptedEngine
        >>> from flip_reward.errors import EngineBusyError
        >>> def busy_once(request):
        ...     if engine.requests == 1:
        ...         raise EngineBusyError("busy")
        ...     return "Name three fruits."
        >>> engine = ScriptedEngine(busy_once)
        >>> patient = RetryingEngine(engine, RetryPolicy(first_wait_seconds=0.01))
        >>> asyncio.run(patient.complete(Request((Message("user", "..."),)))).attempts
        2
    """

    def __init__(self, engine: Engine, policy: RetryPolicy | None = None) -> None:
        super().__init__(engine)
        self._policy = policy or RetryPolicy()
        self._answered = False
        self._failures = 0

    async def _pass_on(self, question: Question, ask: Callable[[Question], Awaitable[Answer]]) -> Answer:
        """Ask, and ask again where that may help.

        Raises:
            EngineError: The last failure, with the number of attempts.
            EngineUnavailableError: The engine said so, or nothing has ever succeeded and many requests have failed.
        """
        try:
            answer = await ask(question)
        except EngineError as error:
            failure = error
        else:
            self._answered = True
            return answer
        try:
            answer = await self._ask_again(question, ask, failure)
        except EngineError as error:
            self._give_up(error)
            raise
        self._answered = True
        return answer

    async def _ask_again(
        self, question: Question, ask: Callable[[Question], Awaitable[Answer]], failure: EngineError
    ) -> Answer:
        attempts = 0
        try:
            async for attempt in self._attempts():
                attempts = attempt.retry_state.attempt_number
                with attempt:
                    if attempts == 1:
                        raise failure  # the first attempt is already made: here it is only counted
                    return replace(await ask(question), attempts=attempts)
        except EngineError as error:
            error.attempts = attempts
            raise
        raise AssertionError("tenacity ends with an answer or an error")

    def _attempts(self) -> AsyncRetrying:
        # Imported here because most runs never need it, and `import flip_reward` is to stay fast.
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_after_delay

        policy = self._policy
        return AsyncRetrying(
            stop=stop_after_attempt(policy.max_attempts) | stop_after_delay(policy.max_total_seconds),
            wait=policy.wait_seconds,
            retry=retry_if_exception(lambda error: isinstance(error, EngineError) and error.retryable),
            reraise=True,
        )

    def _give_up(self, error: EngineError) -> None:
        if isinstance(error, ContextTooLongError):
            self._answered = True  # the model is there; this prompt is the problem
        if self._answered or isinstance(error, EngineUnavailableError):
            return
        self._failures += 1
        if self._failures >= FAILURES_BEFORE_GIVING_UP:
            unavailable = EngineUnavailableError(
                f"the first {self._failures} requests all failed; the last one: {error}", hint=error.hint
            )
            unavailable.attempts = error.attempts
            raise unavailable from error


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


def build_stack(
    engine: Engine,
    *,
    concurrency: int = 64,
    retry: RetryPolicy | None = None,
    cache: ResponseCache | None = None,
) -> CachingEngine:
    """Put caching, retries and a concurrency limit around an engine, in this order from the outside in.

    A cached answer needs no place under the limit, and a request that waits to be sent again gives its place away.

    Args:
        engine: Answers one request with one attempt.
        concurrency: The most requests in flight, at least 1.
        retry: How often and how soon a request is sent again.
        cache: Where answers are kept. Without one, identical requests in flight are still asked only once.

    Raises:
        OptionError: `concurrency` is below 1.

    Example:
        >>> from flip_reward.engines.scripted import ScriptedEngine
        >>> build_stack(ScriptedEngine(), concurrency=8).model
        'scripted'
    """
    return CachingEngine(RetryingEngine(LimitedEngine(engine, concurrency), retry), cache)
