"""Ask an engine, and turn the failure of one request into an outcome."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from flip_reward.core.characters import replace_lone_surrogates
from flip_reward.core.score import Outcome, Score
from flip_reward.engines.base import Completion, Engine, LogprobRequest, Request, TokenLogprobs
from flip_reward.errors import ContextTooLongError, EngineError, EngineUnavailableError, RequestRefusedError

Answer = TypeVar("Answer", Completion, TokenLogprobs)


@dataclass(frozen=True, slots=True)
class Reply(Generic[Answer]):
    """What came of one request.

    Attributes:
        answer: The engine's answer; None when it failed.
        outcome: What the failure is to a score; `Outcome.SCORED` when there is an answer.
        detail: The failure in words.
        attempts: How often the request was sent.
        latency_seconds: From asking to the answer or the last failure.
    """

    answer: Answer | None
    outcome: Outcome
    detail: str | None
    attempts: int
    latency_seconds: float

    def unscored(self) -> Score:
        """Return the score of a response whose request failed."""
        return Score(
            None,
            self.outcome,
            detail=self.detail,
            attempts=self.attempts,
            latency_seconds=self.latency_seconds,
        )


async def ask(engine: Engine, request: Request) -> Reply[Completion]:
    """Ask an engine once; its layers have tried again already where that helps.

    Raises:
        EngineUnavailableError: The engine will never answer, so there is nothing to score.
    """
    reply = await _wait_for(engine.complete(request))
    return reply if reply.answer is None else replace(reply, answer=_clean(reply.answer))


async def ask_logprobs(engine: Engine, request: LogprobRequest) -> Reply[TokenLogprobs]:
    """Ask an engine once how likely a text is.

    Raises:
        NoLogprobsError: It cannot say that of any text.
        EngineUnavailableError: The engine will never answer, so there is nothing to score.
    """
    return await _wait_for(engine.logprobs(request))


async def _wait_for(coming: Awaitable[Answer]) -> Reply[Answer]:
    started = time.perf_counter()
    try:
        answer = await coming
    except EngineUnavailableError:
        raise
    except EngineError as error:
        return Reply(None, _outcome_of(error), str(error), error.attempts, time.perf_counter() - started)
    return Reply(answer, Outcome.SCORED, None, answer.attempts, time.perf_counter() - started)


def _clean(completion: Completion) -> Completion:
    text = None if completion.text is None else replace_lone_surrogates(completion.text)
    return replace(completion, text=text, others=tuple(map(_clean, completion.others)))


def _outcome_of(error: EngineError) -> Outcome:
    if isinstance(error, ContextTooLongError):
        return Outcome.CONTEXT_TOO_LONG
    return Outcome.REQUEST_REFUSED if isinstance(error, RequestRefusedError) else Outcome.ENGINE_FAILURE
