"""`RewardModel`, the interface of every reward, and `ask`, which turns a failed request into a score."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias, TypeVar, overload

from flip_reward.core.cautions import Caution
from flip_reward.core.conversation import Group, Message
from flip_reward.core.copying import CAUTIOUS_SHARE
from flip_reward.core.replies.parse import ReplyPolicy
from flip_reward.core.response import InferenceTarget, replace_lone_surrogates, select_target
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.data.frames import Table, open_frame
from flip_reward.engines.base import (
    Classification,
    ClassifyRequest,
    Completion,
    Engine,
    LogprobRequest,
    Request,
    Sampling,
    TokenLogprobs,
    check_ending,
    check_is_engine,
    find_adaptations,
)
from flip_reward.engines.middleware import innermost
from flip_reward.errors import (
    ContextTooLongError,
    ConversationError,
    DataError,
    EngineError,
    EngineUnavailableError,
    OptionError,
    RequestDroppedError,
    RequestRefusedError,
)
from flip_reward.rewards.options import ResponseOptions, Settings
from flip_reward.rewards.rows import score_frame, score_rows
from flip_reward.rewards.waiting import gather_all, run_blocking

Rendered: TypeAlias = Request | LogprobRequest | ClassifyRequest | None
"""What would be asked; None where there is nothing to ask."""

ColumnNames: TypeAlias = Mapping[str, str] | None
"""Our column names to those of the rows."""

_PROBE = Request((Message("user", "Say yes."),), Sampling(temperature=1.0, max_tokens=1))  # no seed: never cached

T = TypeVar("T")
TableT = TypeVar("TableT", bound=Table)
Answer = TypeVar("Answer", Completion, TokenLogprobs, Classification)


@dataclass(slots=True)
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

    def close(self) -> None:
        """Close the engine from synchronous code; it may be used again. `with reward:` does so in the end."""
        run_blocking(self.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def probe(self) -> None:
        """Ask the engine, without retries, for as little as it answers for this reward, to know whether it does."""
        if self.engine is not None:
            await innermost(self.engine).complete(_PROBE)

    def with_engine(self, engine: Engine) -> Self:
        """Return the same reward with a language model behind it."""
        bound = copy(self)
        bound.engine = check_is_engine(engine)
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
        return ScoredGroup(await self.score_target(group, target), target.instruction)

    async def score_target(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Score every response of one group, and note what each copies of the instruction.

        Args:
            group: The conversation and its responses.
            target: What `select_target` gave for this group.

        Raises:
            EngineUnavailableError: The engine will never answer.
        """
        scores = await self.score_responses(group, target)
        return tuple(
            [
                self._note_copies(target, response, score)
                for response, score in zip(group.responses, scores, strict=True)
            ]
        )

    def _note_copies(self, target: InferenceTarget, response: str, score: Score) -> Score:
        answer = self.visible_answer(response)
        share = None if isinstance(answer, Outcome) else target.copying.measure_share(answer)
        if share is None:
            return score
        copies = share >= CAUTIOUS_SHARE and Caution.COPIES_INSTRUCTION not in score.cautions
        cautions = (*score.cautions, Caution.COPIES_INSTRUCTION) if copies else score.cautions
        return score.with_copies(share, cautions)

    @overload
    async def score(self, data: Group) -> tuple[Score, ...]: ...
    @overload
    async def score(self, data: Mapping[str, object], *, columns: ColumnNames = None) -> dict[str, object]: ...
    @overload
    async def score(self, data: TableT, *, columns: ColumnNames = None, group_by: str | None = None) -> TableT: ...
    @overload
    async def score(self, data: Iterable[Group]) -> list[tuple[Score, ...]]: ...
    @overload
    async def score(
        self, data: Iterable[Mapping[str, object]], *, columns: ColumnNames = None, group_by: str | None = None
    ) -> list[dict[str, object]]: ...

    async def score(self, data: object, *, columns: ColumnNames = None, group_by: str | None = None) -> object:
        """Score groups, rows or a table; everything is asked at once, and the engine limits what is in flight.

        Args:
            data: One group or several; or rows in any shape of a file: a mapping, several of them, a pandas or polars
                DataFrame, or a `datasets.Dataset`.
            columns: For rows: our column names to theirs, such as {"response": "answer"}.
            group_by: For rows: those with the same value of this column form a group, which matters to rewards that
                compare responses. Without it those do that have the same id and prompt, or that follow each other
                with the same prompt.

        Returns:
            For a group a score for each of its responses, for several a list of these. Rows and tables come back as
            what they are, with columns added: reward, outcome, inferred_instruction, precision, recall, reasoning,
            detail, cautions and copied_share. What was given is left as it is.

        Raises:
            ConversationError: A group has no instruction to infer. Nothing has been asked then.
            DataError: It is nothing that can be scored, or a row cannot be read, which is said before anything is
                asked. In a table such a row has the outcome "rejected" instead.
            EngineUnavailableError: The engine will never answer.

        Example:
            >>> import asyncio
            >>> from flip_reward import FlipReward, ScriptedEngine
            >>> row = {"question": "Name a fruit.", "answer": "A pear is a fruit."}
            >>> scored = asyncio.run(
            ...     FlipReward(ScriptedEngine()).score(row, columns={"instruction": "question", "response": "answer"})
            ... )
            >>> scored["outcome"], scored["reward"]
            ('scored', 0.25)
        """
        if isinstance(data, Group):
            return (await self.score_group(data)).scores
        frame = open_frame(data)
        if frame is not None:
            return await score_frame(self, frame, columns, group_by)
        if isinstance(data, Mapping):
            try:
                return (await score_rows(self, [data], columns, group_by))[0]
            except DataError as error:
                if error.hint or not all(isinstance(value, list) for value in data.values()):
                    raise
                raise DataError(str(error), hint=_ONE_ROW) from error
        given: list[object] = list(data) if isinstance(data, Iterable) and not isinstance(data, str) else [data]
        groups = [one for one in given if isinstance(one, Group)]
        rows = [one for one in given if isinstance(one, Mapping)]
        if len(groups) == len(given):
            return await self._score_groups(groups)
        if len(rows) == len(given):
            return await score_rows(self, rows, columns, group_by)
        odd = next(place for place, one in enumerate(given) if not isinstance(one, Mapping))
        raise DataError(f"row {odd} is no row, but {type(given[odd]).__name__}", hint=_WHAT_IS_SCORED)

    async def _score_groups(self, groups: Sequence[Group]) -> list[tuple[Score, ...]]:
        targets = []
        for place, group in enumerate(groups):
            try:
                targets.append(self.select_target(group))
            except ConversationError as error:
                raise ConversationError(f"group {place}: {error}", hint=error.hint) from error
        return await gather_all(map(self.score_target, groups, targets))

    @overload
    def score_sync(self, data: Group) -> tuple[Score, ...]: ...
    @overload
    def score_sync(self, data: Mapping[str, object], *, columns: ColumnNames = None) -> dict[str, object]: ...
    @overload
    def score_sync(self, data: TableT, *, columns: ColumnNames = None, group_by: str | None = None) -> TableT: ...
    @overload
    def score_sync(self, data: Iterable[Group]) -> list[tuple[Score, ...]]: ...
    @overload
    def score_sync(
        self, data: Iterable[Mapping[str, object]], *, columns: ColumnNames = None, group_by: str | None = None
    ) -> list[dict[str, object]]: ...

    def score_sync(self, data: Any, *, columns: ColumnNames = None, group_by: str | None = None) -> object:
        """Score groups, rows or a table from synchronous code; see `score`.

        It may be called from several threads at once, and inside a running event loop (a notebook). All calls share
        the engine, its connections and its limit on requests in flight, and leave them open: see `close`.
        """
        return run_blocking(self.score(data, columns=columns, group_by=group_by))

    def score_table(self, table: TableT, *, columns: ColumnNames = None, group_by: str | None = None) -> TableT:
        """Score a pandas or polars DataFrame or a `datasets.Dataset`, from synchronous code; see `score`.

        Returns:
            A new table of the same kind, with columns added.

        Raises:
            DataError: It is no such table.
        """
        if open_frame(table) is None:
            raise DataError(f"a table is wanted, and not {type(table).__name__}", hint=_WHAT_IS_A_TABLE)
        return self.score_sync(table, columns=columns, group_by=group_by)


_WHAT_IS_SCORED = "score takes Groups, rows as mappings, a pandas or polars DataFrame, or a datasets.Dataset"


_WHAT_IS_A_TABLE = "score_table takes a pandas or polars DataFrame, or a datasets.Dataset; score_sync takes rows, too"
_ONE_ROW = "a mapping is one row: of columns make a table, as pandas.DataFrame does"


async def score_each(work: Iterable[Coroutine[object, object, Score]]) -> tuple[Score, ...]:
    """Score responses at once that do not depend on one another: one whose request was dropped is unscored."""

    async def score(one: Coroutine[object, object, Score]) -> Score:
        try:
            return await one
        except RequestDroppedError as error:
            return Score(None, Outcome.ENGINE_FAILURE, detail=str(error))

    return tuple(await gather_all(map(score, work)))


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


def find_detail(answer: Completion | TokenLogprobs | Classification) -> str | None:
    """Return the first thing that the engine says about a completion or the others beside it."""
    if not isinstance(answer, Completion):
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
