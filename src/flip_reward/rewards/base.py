"""`RewardModel`: what every reward is to its callers.

Ask an engine, and turn the failure of one request into an outcome.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

from flip_reward.core.conversation import Group
from flip_reward.core.response import replace_lone_surrogates, select_target
from flip_reward.core.score import Outcome, Score
from flip_reward.engines.base import Completion, Engine, LogprobRequest, Request, TokenLogprobs
from flip_reward.errors import ContextTooLongError, EngineError, EngineUnavailableError, RequestRefusedError

Settings = Mapping[str, str | int | float | bool | None]
"""What a reward's scores depend on, flat, so that two runs can be compared line by line."""

Rendered: TypeAlias = Request | LogprobRequest | None
"""What would be asked; None where there is nothing to ask."""

T = TypeVar("T")


class RewardModel(ABC):
    """Scores groups of responses.

    A reward implements `score_group`; everything else follows from it.

    Attributes:
        engine: The language model behind it.
        independent: Each response of a group is scored without looking at the others, so a part of a group may be
            scored on its own.
    """

    engine: Engine
    independent: bool = True

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Everything that a score depends on besides the group. Never a secret."""

    @abstractmethod
    async def score_group(self, group: Group) -> tuple[Score, ...]:
        """Score every response of one group, in order.

        Raises:
            EngineUnavailableError: The engine will never answer. Every lesser failure is an `Outcome`.
            ConversationError: The group has no instruction to infer.
        """

    def instruction_of(self, group: Group) -> str:
        """Return the instruction that a group's responses are scored against: the last user message.

        Raises:
            ConversationError: The group has none.
        """
        return select_target(group.messages).instruction

    def render(self, group: Group) -> Sequence[Rendered]:  # noqa: ARG002 - for those that ask
        """Render what scoring a group begins by asking, without sending anything; nothing by default.

        A reward that scores responses independently renders one question for each, or None where there is none.

        Raises:
            ConversationError: The group cannot be scored.
        """
        return []

    async def score(self, groups: Iterable[Group]) -> list[tuple[Score, ...]]:
        """Score many groups at once, in order. The engine limits how many requests are in flight.

        Raises:
            ConversationError: A group has no instruction to infer. Nothing has been asked then.
            EngineUnavailableError: The engine will never answer.
        """
        groups = list(groups)
        for group in groups:
            self.instruction_of(group)
        return await gather_all(self.score_group(group) for group in groups)

    def score_sync(self, groups: Sequence[Group]) -> list[tuple[Score, ...]]:
        """Score many groups from synchronous code, also from inside a running event loop (a notebook)."""

        async def run() -> list[tuple[Score, ...]]:
            try:
                return await self.score(groups)
            finally:
                await self.engine.aclose()

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(run())
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(asyncio.run, run()).result()


async def gather_all(work: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """Await everything at once, in order. The first error cancels the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


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
    """Call an engine once; its middleware has tried again already where that helps.

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
