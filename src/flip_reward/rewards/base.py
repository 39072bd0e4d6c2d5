"""`RewardModel`, the interface of every reward, and `ask`, which turns a failed request into a score."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from typing import Self, TypeAlias, TypeVar

from flip_reward.core.conversation import Group
from flip_reward.core.replies.parse import ReplyPolicy
from flip_reward.core.response import InferenceTarget, replace_lone_surrogates, select_target
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.engines.base import (
    Completion,
    Engine,
    LogprobRequest,
    Request,
    TokenLogprobs,
    check_ending,
    find_adaptations,
)
from flip_reward.errors import (
    ContextTooLongError,
    EngineError,
    EngineUnavailableError,
    OptionError,
    RequestDroppedError,
    RequestRefusedError,
)
from flip_reward.rewards.options import ResponseOptions, Settings

Rendered: TypeAlias = Request | LogprobRequest | None
"""What would be asked; None where there is nothing to ask."""

T = TypeVar("T")
Answer = TypeVar("Answer", Completion, TokenLogprobs)


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """The scores of a group's responses, in order, and the instruction that they stand on."""

    scores: tuple[Score, ...]
    instruction: str


class RewardModel(ABC):
    """Scores groups of responses.

    A reward implements `score_responses`; everything else follows from it.

    Attributes:
        engine: The language model behind it; None for rewards that need none, and before there is one.
        independent: Each response of a group is scored without looking at the others, so a part of a group may be
            scored on its own.
        response_options: What is read of a response.

    Example:
        >>> from flip_reward import Group, Outcome, RewardModel, Score
        >>> class Exclamations(RewardModel):
        ...     settings = {"reward": "exclamations"}
        ...
        ...     async def score_responses(self, group, target):
        ...         return tuple(Score(float(text.count("!")), Outcome.SCORED) for text in group.responses)
        >>> [scores] = Exclamations().score_sync([Group.of("Say hi.", ["Hi!", "Hi."])])
        >>> [score.value for score in scores]
        [1.0, 0.0]
    """

    engine: Engine | None = None
    independent: bool = True
    response_options: ResponseOptions = ResponseOptions()

    def visible_answer(self, response: str) -> str | Outcome:
        """Return the part of a response that is scored, or why there is none."""
        return self.response_options.visible_answer(response)

    async def aclose(self) -> None:
        """Close the engine, where there is one; it may be used again."""
        if self.engine is not None:
            await self.engine.aclose()

    def with_engine(self, engine: Engine) -> Self:
        """Return the same reward with a language model behind it."""
        bound = copy(self)
        bound.engine = engine
        return bound

    @property
    def required_engine(self) -> Engine:
        """The language model behind it; an OptionError where there is none."""
        if self.engine is None:
            raise OptionError("the reward has no language model", hint="make it with RewardConfig.load()")
        return self.engine

    @property
    def model_name(self) -> str:
        """What the model is called; "none" where there is none."""
        return "none" if self.engine is None else self.engine.model

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The language models behind it, by their names in the settings."""
        return {} if self.engine is None else {"engine": self.engine}

    @property
    def engine_settings(self) -> Settings:
        """The engine's part of the settings."""
        return {} if self.engine is None else {"engine": self.engine.identity}

    @property
    def adaptations(self) -> tuple[str, ...]:
        """How requests were changed because the model refuses them as they were; empty where they were not."""
        return find_adaptations(self.engine)

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Everything but the group that a score depends on. Never a secret."""

    @abstractmethod
    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Score every response of one group, in order.

        Args:
            group: The conversation and its responses.
            target: What `select_target` gave for this group.

        Raises:
            EngineUnavailableError: The engine will never answer. Every lesser failure is an `Outcome`.
        """

    def select_target(self, group: Group) -> InferenceTarget:
        """Choose the instruction that a group's responses are scored against: the last user message.

        Raises:
            ConversationError: The group has none, or cannot be scored for another reason.
        """
        return select_target(group.messages)

    def render(self, group: Group) -> Sequence[Rendered]:  # noqa: ARG002 - for those that ask
        """Render what scoring a group begins by asking, without sending anything; nothing by default.

        A reward that scores responses independently renders one question for each, or None where there is none.

        Raises:
            ConversationError: The group cannot be scored.
        """
        return []

    async def score_group(self, group: Group) -> ScoredGroup:
        """Score every response of one group.

        Raises:
            ConversationError: The group has no instruction to infer.
            EngineUnavailableError: The engine will never answer.
        """
        target = self.select_target(group)
        return ScoredGroup(await self.score_responses(group, target), target.instruction)

    async def score(self, groups: Iterable[Group]) -> list[tuple[Score, ...]]:
        """Score many groups at once. The engine limits how many requests are in flight.

        Args:
            groups: Conversations and their candidate responses.

        Returns:
            For each group, in order, a score for each of its responses.

        Raises:
            ConversationError: A group has no instruction to infer. Nothing has been asked then.
            EngineUnavailableError: The engine will never answer.
        """
        selected = [(group, self.select_target(group)) for group in groups]
        return await gather_all(self.score_responses(group, target) for group, target in selected)

    def score_sync(self, groups: Sequence[Group]) -> list[tuple[Score, ...]]:
        """Score many groups from synchronous code, also from inside a running event loop (a notebook)."""

        async def run() -> list[tuple[Score, ...]]:
            try:
                return await self.score(groups)
            finally:
                await self.aclose()

        return run_blocking(run())


async def gather_all(work: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """Await everything at once, in order. The first error cancels the rest and is raised as it is.

    Where a request was dropped, the others that are in flight are finished first: their answers may be kept.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except RequestDroppedError:
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


async def score_each(work: Iterable[Coroutine[object, object, Score]]) -> tuple[Score, ...]:
    """Score responses at once that do not depend on one another: one whose request was dropped is unscored."""

    async def score(one: Coroutine[object, object, Score]) -> Score:
        try:
            return await one
        except RequestDroppedError as error:
            return Score(None, Outcome.ENGINE_FAILURE, detail=str(error))

    return tuple(await gather_all(map(score, work)))


def run_blocking(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine from synchronous code, also from inside a running event loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


async def ask(coming: Awaitable[Answer], read: Callable[[Answer, Cost], T]) -> T | Score:
    """Await an engine's answer and read it; where the engine failed, return an unscored score.

    The engine's middleware has tried again already where that helps. Where it will never answer, there is nothing to
    score: `EngineUnavailableError`. A score that stays without a value says why the reply was empty or cut, where
    that is known.
    """
    started = time.perf_counter()
    try:
        answer = check_ending(await coming)
    except EngineUnavailableError:
        raise
    except EngineError as error:
        cost = Cost(attempts=error.attempts, latency_seconds=time.perf_counter() - started)
        return Score(None, _outcome_of(error), detail=str(error), cost=cost)
    seconds = time.perf_counter() - started
    if isinstance(answer, Completion):
        answer = _clean(answer)
    result = read(answer, Cost(answer.usage, answer.attempts, seconds, answer.cached))
    if isinstance(result, Score) and result.value is None and not result.detail:
        cut = _CUT if result.outcome is Outcome.TRUNCATED_REPLY else None
        return replace(result, detail=find_detail(answer) or cut)
    return result


_CUT = "the reply ended at the token limit; allow more with --max-tokens"


def find_detail(answer: Completion | TokenLogprobs) -> str | None:
    """Return the first thing that the engine says about a completion or the others beside it."""
    if isinstance(answer, TokenLogprobs):
        return None
    return next((one.detail for one in (answer, *answer.others) if one.detail), None)


def fail_as(policy: ReplyPolicy, score: Score) -> Score:
    """Return the score of a request as a policy has it: as published, a failure is worth 0.

    One that may pass stays unscored, or an outage would settle all that is left of a run.
    """
    if policy is ReplyPolicy.STRICT or score.value is not None or score.outcome.retryable:
        return score
    detail = f"{score.outcome.value} counts as 0: {score.detail}"
    return replace(score, value=0.0, outcome=Outcome.SCORED, detail=detail)


def _clean(completion: Completion) -> Completion:
    """Return a completion whose texts can be stored and sent."""
    if not completion.others and (completion.text is None or completion.text.isascii()):
        return completion
    text = None if completion.text is None else replace_lone_surrogates(completion.text)
    return replace(completion, text=text, others=tuple(map(_clean, completion.others)))


def _outcome_of(error: EngineError) -> Outcome:
    if isinstance(error, ContextTooLongError):
        return Outcome.CONTEXT_TOO_LONG
    return Outcome.REQUEST_REFUSED if isinstance(error, RequestRefusedError) else Outcome.ENGINE_FAILURE
