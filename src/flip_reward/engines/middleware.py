"""What stands between a reward and an engine: a concurrency limit, retries and a cache.

Each is an engine around an engine; `build_stack` puts all three around one, and says why in that order.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

from flip_reward.core.score import Usage
from flip_reward.engines.base import (
    AnyRequest,
    Classification,
    ClassifyRequest,
    Completion,
    Engine,
    LogprobRequest,
    Request,
    ServerEngine,
    TokenLogprobs,
    check_ending,
    classify_with,
    find_adaptations,
)
from flip_reward.engines.cache import ResponseCache, cache_key, is_complete
from flip_reward.engines.refusals import RefusalInquiry
from flip_reward.engines.stopping import current_stop, pause
from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    OptionError,
    RequestRefusedError,
)

AnyCompletion = TypeVar("AnyCompletion", Completion, TokenLogprobs, Classification)


class EngineMiddleware(ABC):
    """An engine around an engine, which treats completions, log-probabilities and rewards alike (`_call`).

    Middleware never changes an answer, so model and identity are those of the engine inside.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def model(self) -> str:
        """The model's name, as records show it."""
        return self.engine.model

    @property
    def identity(self) -> str:
        """Everything but the request that an answer depends on."""
        return self.engine.identity

    @property
    def adaptations(self) -> tuple[str, ...]:
        """How the engine inside changes requests; see `find_adaptations`."""
        return find_adaptations(self.engine)

    # Not `async`: that would be one more coroutine on the way of every reward.

    def complete(self, request: Request) -> Coroutine[object, object, Completion]:
        """Answer one request; see `Engine.complete`."""
        return self._call(request, self.engine.complete)

    def logprobs(self, request: LogprobRequest) -> Coroutine[object, object, TokenLogprobs]:
        """Say how likely a continuation is; see `Engine.logprobs`."""
        return self._call(request, self.engine.logprobs)

    def classify(self, request: ClassifyRequest) -> Coroutine[object, object, Classification]:
        """Give the number of the model's head; see `Classifier.classify`."""
        return self._call(request, self._classify_inside)

    def _classify_inside(self, request: ClassifyRequest) -> Coroutine[object, object, Classification]:
        return classify_with(self.engine, request)

    async def aclose(self) -> None:
        """Release what the engine inside holds for the running event loop."""
        await self.engine.aclose()

    @abstractmethod
    async def _call(
        self, request: AnyRequest, call: Callable[[AnyRequest], Awaitable[AnyCompletion]]
    ) -> AnyCompletion:
        """Answer a request by `call`, the method of the engine inside that answers it with one attempt."""


def innermost(engine: Engine) -> Engine:
    """Return the engine inside all middleware."""
    while isinstance(engine, EngineMiddleware):
        engine = engine.engine
    return engine


def replace_innermost(engine: Engine, make: Callable[[Engine], Engine]) -> Engine:
    """Return an engine made of the one inside all middleware, with the same cache around it and nothing else.

    What answers from a file needs no limit and no retries.
    """
    made = make(innermost(engine))
    return engine.around(made) if isinstance(engine, CachingEngine) else made


class LimitedEngine(EngineMiddleware):
    """Keeps the number of requests in flight under a limit that adapts.

    The limit starts at `concurrency`. It is halved when the server is busy (429, 425) or a request times out, at most
    once for the requests that were in flight together, and grows by about one for every round of answers: additive
    increase, multiplicative decrease, as in TCP congestion avoidance (RFC 5681). Requests start in the order they
    came. Each running event loop has a limit of its own. Work that is asked to stop (`StopSignal`) starts none.
    """

    def __init__(self, engine: Engine, concurrency: int) -> None:
        if concurrency < 1:
            raise OptionError(f"concurrency must be at least 1, not {concurrency}")
        super().__init__(engine)
        self._ceiling = concurrency
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, _AdaptiveSemaphore] = WeakKeyDictionary()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now in the running event loop; outside of one, `concurrency`."""
        try:
            semaphore = self._semaphores.get(asyncio.get_running_loop())
        except RuntimeError:
            semaphore = None
        return int(semaphore.limit) if semaphore else self._ceiling

    async def _call(
        self, request: AnyRequest, call: Callable[[AnyRequest], Awaitable[AnyCompletion]]
    ) -> AnyCompletion:
        loop = asyncio.get_running_loop()
        semaphore = self._semaphores.get(loop)
        if semaphore is None:
            semaphore = self._semaphores[loop] = _AdaptiveSemaphore(self._ceiling)
        if not semaphore.try_acquire():
            await semaphore.acquire(loop)
        number, stop = semaphore.started, current_stop.get()
        try:
            completion = await (call(request) if stop is None else stop.start(call, request))
        except (EngineBusyError, EngineTimeoutError):
            semaphore.shrink(number)
            raise
        else:
            if semaphore.limit < self._ceiling:
                semaphore.grow()
            return completion
        finally:
            semaphore.release()


class _AdaptiveSemaphore:
    """A semaphore of one event loop whose limit changes. Nobody waits while fewer are in flight than the limit."""

    def __init__(self, ceiling: int) -> None:
        self.limit = float(ceiling)
        self.started = 0
        self._ceiling = ceiling
        self._in_flight = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._started_before_shrinking = 0

    def try_acquire(self) -> bool:
        if self._in_flight + 1 > self.limit:
            return False
        self._in_flight += 1
        self.started += 1
        return True

    async def acquire(self, loop: asyncio.AbstractEventLoop) -> None:
        waiter = loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # it was let in during the same turn of the loop: let in the next one
                self.release()
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def release(self) -> None:
        self._in_flight -= 1
        while self._waiters and self._in_flight + 1 <= self.limit:
            waiter = self._waiters.popleft()
            if not waiter.done():  # else it was cancelled, and its task has not run yet
                self.try_acquire()
                waiter.set_result(None)

    def grow(self) -> None:
        """Count an answer: `limit` answers in a row raise the limit by one."""
        self.limit = min(self.limit + 1 / self.limit, float(self._ceiling))

    def shrink(self, number: int) -> None:
        """Halve the limit, unless request `number` started before it was last halved: that news is known already."""
        if number > self._started_before_shrinking:
            self.limit = max(self.limit / 2, 1.0)
            self._started_before_shrinking = self.started


FAILURES_BEFORE_GIVING_UP = 20
"""When nothing has ever succeeded, this many requests may fail for good before the run ends."""

_MAX_DOUBLINGS = 64  # of the backoff: beyond that it is far above any limit, and would overflow


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a request is sent again.

    The wait before attempt n + 1 is drawn evenly from 0 to `first_wait_seconds` x 2^(n-1), at most
    `max_wait_seconds`: exponential backoff with full jitter. The server's Retry-After is added to it.

    Attributes:
        max_attempts: How many times a request is sent at most, at least 1.
        first_wait_seconds: The longest wait before the second attempt.
        max_wait_seconds: The longest wait of the backoff.
        max_retry_after_seconds: A longer Retry-After is cut to this.
        max_total_seconds: After a failure that comes later than this after the first one, no attempt follows.
    """

    max_attempts: int = 8
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 30.0
    max_retry_after_seconds: float = 120.0
    max_total_seconds: float = 1800.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise OptionError(f"max_attempts must be at least 1, not {self.max_attempts}")

    def allows_retry(self, attempts: int, elapsed_seconds: float) -> bool:
        """Whether another attempt may follow so many, so long after the first one failed."""
        return attempts < self.max_attempts and elapsed_seconds < self.max_total_seconds

    def wait_seconds(self, error: EngineError, attempts: int) -> float:
        """Draw how long to wait after attempt number `attempts` failed with an error."""
        backoff = min(self.first_wait_seconds * 2.0 ** min(attempts - 1, _MAX_DOUBLINGS), self.max_wait_seconds)
        retry_after = min(error.retry_after_seconds or 0.0, self.max_retry_after_seconds)
        return retry_after + random.uniform(0.0, backoff)  # noqa: S311 - jitter, not a secret


class RetryingEngine(EngineMiddleware):
    """Calls the engine inside again after failures that may pass; an answer that ended as one is a failure, too.

    What refusals mean is found out (`refusals.py`).

    As long as nothing has been answered, failure number `FAILURES_BEFORE_GIVING_UP` and all that follow are raised as
    `EngineUnavailableError`, which ends a run.
    """

    def __init__(self, engine: Engine, policy: RetryPolicy | None = None) -> None:
        super().__init__(engine)
        self._policy = policy or RetryPolicy()
        self._answered = False
        self._last_answered: Request | LogprobRequest | ClassifyRequest | None = None
        self._failures = 0
        self._inquiries: WeakKeyDictionary[asyncio.AbstractEventLoop, RefusalInquiry] = WeakKeyDictionary()

    async def _call(
        self, request: AnyRequest, call: Callable[[AnyRequest], Awaitable[AnyCompletion]]
    ) -> AnyCompletion:
        policy, attempts, first_failed_at = self._policy, 1, None
        while True:
            try:
                completion = check_ending(await call(request))
            except EngineError as failure:
                error = failure
            else:
                self._answered, self._last_answered = True, request
                return completion if attempts == 1 else replace(completion, attempts=attempts)
            if isinstance(error, RequestRefusedError) and error.by_server:
                inquiry = self._inquiries.setdefault(asyncio.get_running_loop(), RefusalInquiry())
                error = await inquiry.find_meaning(error, request, call, lambda: self._last_answered)
            error.attempts = attempts
            failed_at = time.monotonic()
            if first_failed_at is None:
                first_failed_at = failed_at
            if not (error.retryable and policy.allows_retry(attempts, failed_at - first_failed_at)):
                self._note_failure(error)
                raise error
            await pause(policy.wait_seconds(error, attempts))
            attempts += 1

    def _note_failure(self, error: EngineError) -> None:
        """Count a failure for good; raise when there are so many that no request will be answered."""
        answered = isinstance(error, RequestRefusedError) and (error.by_server or error.status < 300)
        if answered or isinstance(error, ContextTooLongError):
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
    in_flight: dict[object, asyncio.Future[object]] = field(default_factory=dict)
    """By request. None as a result means that its caller was cancelled, and somebody else has to call."""
    flushing: asyncio.Task[None] | None = None


class CachingEngine(EngineMiddleware):
    """Answers from a cache where it can, and calls the engine inside once for identical requests in flight.

    Only requests whose answer is repeatable (temperature 0, or a seed) are cached and shared. Answers that cost
    nothing have `cached=True`, no attempts and no usage, so that sums stay true. Failures are not kept, but all who
    share a request that fails get the failure. Without a cache, only what is in flight is shared. An answer of a
    server at another address is taken only where the server lists the model, so that two models are never mixed.
    """

    def __init__(self, engine: Engine, cache: ResponseCache | None) -> None:
        super().__init__(engine)
        self._cache = cache
        inside = innermost(engine)
        self._server = inside if isinstance(inside, ServerEngine) else None
        self._address = self._server.base_url if self._server else None
        self._lists_model: bool | None = None  # unknown before it is asked, once
        self._states: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = WeakKeyDictionary()

    async def _call(
        self, request: AnyRequest, call: Callable[[AnyRequest], Awaitable[AnyCompletion]]
    ) -> AnyCompletion:
        if not request.repeatable:
            return await call(request)
        loop = asyncio.get_running_loop()
        state = self._states.get(loop)
        if state is None:
            state = self._states[loop] = _LoopState()
        # A request's future holds an answer of its kind, which no type can say of a mapping.
        in_flight = cast("dict[AnyRequest, asyncio.Future[AnyCompletion | None]]", state.in_flight)
        cache = self._cache
        future: asyncio.Future[AnyCompletion | None] = loop.create_future()
        while (shared := in_flight.setdefault(request, future)) is not future:
            answered = await asyncio.shield(shared)
            if answered is not None:
                return replace(answered, usage=Usage(), attempts=0, cached=True)
        kept = None
        try:
            if cache is not None:
                key = cache_key(self.engine.identity, request)
                kept = cast("AnyCompletion | None", await self._look_up(cache, key))
            if kept is not None and not is_complete(kept):  # earlier versions kept more
                kept = None
            completion = await call(request) if kept is None else kept
        except Exception as error:
            future.set_exception(error)
            future.exception()  # or asyncio complains when nobody waits
            raise
        except BaseException:
            future.set_result(None)
            raise
        finally:
            del in_flight[request]
        future.set_result(completion)
        if cache is not None and kept is None and is_complete(completion):
            cache.put(key, completion, server=self._address)
            self._flush_later(state, cache)
        return completion

    def around(self, engine: Engine) -> CachingEngine:
        """Put the same cache around another engine."""
        return CachingEngine(engine, self._cache)

    async def _look_up(self, cache: ResponseCache, key: bytes) -> Completion | TokenLogprobs | Classification | None:
        """Find a kept answer. One of another address counts only where this server knows the model by its name."""
        if self._server is None or self._lists_model:
            return cache.get(key)
        kept = cache.get(key, server=self._address)
        if kept is None and self._lists_model is None and (elsewhere := cache.get(key)) is not None:
            try:
                self._lists_model = await self._server.lists_model()
            except EngineError:
                return None  # the request itself will say what is wrong
            return elsewhere if self._lists_model else None
        return kept

    def _flush_later(self, state: _LoopState, cache: ResponseCache) -> None:
        if state.flushing is not None:
            return

        def flush(_: asyncio.Task[None]) -> None:
            state.flushing = None
            cache.flush()

        # A task, not a timer: an event loop that ends cancels it, and nothing is lost.
        state.flushing = asyncio.create_task(asyncio.sleep(FLUSH_SECONDS))
        state.flushing.add_done_callback(flush)

    async def aclose(self) -> None:
        """Write the cache, let go of its file, and close the engine inside."""
        if self._cache is not None:
            self._cache.close()
        await self.engine.aclose()


def build_stack(
    engine: Engine,
    *,
    concurrency: int = 64,
    retry: RetryPolicy | None = None,
    cache: ResponseCache | None = None,
) -> CachingEngine:
    """Put caching, retries and a concurrency limit around an engine, in this order from the outside in.

    A cached answer does not count as a request in flight, and neither does a request that waits to be sent again.
    """
    return CachingEngine(RetryingEngine(LimitedEngine(engine, concurrency), retry), cache)
