"""`RetryingEngine`: asks again when that may help, and says early when it never will."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flip_reward.engines.base import Engine
from flip_reward.engines.layers import Answer, EngineLayer, Question
from flip_reward.errors import ContextTooLongError, EngineError, EngineUnavailableError, OptionError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

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
