"""Sample the candidate responses of many rows from a policy, so that nothing is asked twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from flip_reward.core.conversation import Group, Message
from flip_reward.core.replies.ending import Ending
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.data.cells import is_missing
from flip_reward.data.groups import SourceRow
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.data.shapes.columns import PAIR_COLUMNS, RESPONSE_COLUMNS
from flip_reward.engines.base import Completion, Engine, Request, Sampling, find_adaptations
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import ConversationError, DataError, OptionError, RequestDroppedError
from flip_reward.rewards.base import Rendered, RewardModel, ask
from flip_reward.rewards.options import Settings
from flip_reward.rewards.waiting import gather_all
from flip_reward.scoring.runner import FailureStreak, RunLimits, run_workers
from flip_reward.selection.candidates import Candidate, CandidateFile, SampledGroup


@dataclass(frozen=True, slots=True)
class Policy:
    """The model that writes the responses, and how they are sampled."""

    engine: Engine
    count: int
    """How many responses each row gets, at least 2."""
    sampling: Sampling
    """Above temperature 0. Candidate number i has the seed + i."""

    def __post_init__(self) -> None:
        if self.count < 2:
            raise OptionError(f"there is no best of {self.count}", hint="--generate takes 2 or more")
        if self.sampling.temperature == 0:
            raise OptionError("a policy at temperature 0 gives the same response every time")

    @property
    def settings(self) -> Settings:
        """The settings that the responses depend on, for the run's manifest."""
        sampling = self.sampling
        return {
            "policy_engine": self.engine.identity,
            "generate": self.count,
            "policy_temperature": sampling.temperature,
            "policy_max_tokens": sampling.max_tokens,
            "policy_seed": sampling.seed,
        }

    def request(self, messages: tuple[Message, ...], index: int) -> Request:
        """Return the request for one candidate."""
        return Request(messages, replace(self.sampling, seed=self.seed_of(index)))

    def seed_of(self, index: int) -> int:
        """Return the seed of one candidate."""
        return (self.sampling.seed or 0) + index


class SampledReward(RewardModel):
    """A reward for sampled responses: one that the policy failed to write is unscored, with the policy's failure."""

    def __init__(self, reward: RewardModel, policy: Policy) -> None:
        self.engine = reward.engine
        self.independent = reward.independent
        self.response_options = reward.response_options
        self._reward = reward
        self._policy = policy

    async def aclose(self) -> None:
        """Close the engines of the reward; the policy's is closed when all is sampled."""
        await self._reward.aclose()

    @property
    def model_name(self) -> str:
        """What the reward's model is called."""
        return self._reward.model_name

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The language models of the reward and of the policy."""
        return {**self._reward.engines, "policy_engine": self._policy.engine}

    @property
    def settings(self) -> Settings:
        """The settings of the reward and of the policy."""
        return {**self._reward.settings, **self._policy.settings}

    @property
    def adaptations(self) -> tuple[str, ...]:
        """How requests of the reward and of the policy were changed."""
        policy = find_adaptations(self._policy.engine)
        return (*self._reward.adaptations, *(f"of the policy: {adaptation}" for adaptation in policy))

    def select_target(self, group: Group) -> InferenceTarget:
        """Choose what the reward scores against."""
        return self._reward.select_target(group)

    def render(self, group: Group) -> Sequence[Rendered]:
        """Render what the reward would ask."""
        return self._reward.render(group)

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Score the responses that are there. Missing ones are blanks in the group, which cost no request."""
        scores = await self._reward.score_responses(group, target)
        if not isinstance(group, SampledGroup):
            return scores
        failures = [candidate.to_score() for candidate in group.candidates]
        return tuple(failure or score for failure, score in zip(failures, scores, strict=True))


class RolloutObserver(Protocol):
    """Watches candidates being sampled. Called on the event loop, so it must return at once."""

    def sampled(self, candidate: Candidate) -> None:
        """A candidate was kept."""
        ...

    def row_sampled(self) -> None:
        """All candidates of a row are kept."""
        ...


class Rollout:
    """One session of sampling candidates."""

    def __init__(
        self,
        policy: Policy,
        file: CandidateFile,
        *,
        limits: RunLimits,
        observer: RolloutObserver,
        stop: StopSignal,
    ) -> None:
        self._policy = policy
        self._file = file
        self._limits = limits
        self._observer = observer
        self._stop = stop
        self._failures = FailureStreak("the policy")

    async def run(self, rows: Iterator[SourceRow | InvalidRow], reward: RewardModel) -> None:
        """Sample the candidates that are missing.

        Rows that will not be scored, without an instruction for the reward, get none.
        """
        wanted = self._wanted(rows, reward)
        try:
            await run_workers(self._limits.workers, lambda: self._work(wanted), self._stop)
        finally:
            await self._policy.engine.aclose()
        self._failures.raise_if_lost()

    def _wanted(self, rows: Iterator[SourceRow | InvalidRow], reward: RewardModel) -> Iterator[SourceRow]:
        for row in rows:
            checked = row if isinstance(row, InvalidRow) else _check(row, self._policy.count, reward)
            if isinstance(checked, SourceRow):
                if self._file.pending(checked.position):
                    yield checked
            elif self._limits.strict:  # without it, the scoring that follows lists the row
                where = f"{checked.source}, line {checked.line}"
                raise DataError(f"{where}: {checked.reason}", hint="leave out --strict to go on")

    async def _work(self, rows: Iterator[SourceRow]) -> None:
        for row in rows:  # shared by all workers: each takes the next one
            try:
                await gather_all(self._sample(row, index) for index in self._file.pending(row.position))
            except RequestDroppedError:
                return
            self._observer.row_sampled()
            if self._stop.requested or self._failures.lost:
                return

    async def _sample(self, row: SourceRow, index: int) -> None:
        make = partial(Candidate, row.position, row.group.id, index, self._policy.seed_of(index))

        def read(completion: Completion, cost: Cost) -> Candidate:
            missing = completion.text is None or completion.detail is not None
            cut = Ending.of(completion.finish_reason) is Ending.CUT
            return make(
                None if missing else completion.text,
                failure=(Outcome.TRUNCATED_REPLY if cut else Outcome.EMPTY_REPLY) if missing else None,
                # What follows names options of the reward's model.
                detail=completion.detail and completion.detail.partition(";")[0],
                finish_reason=completion.finish_reason,
                usage=cost.usage,
                attempts=cost.attempts,
                latency_seconds=round(cost.latency_seconds, 6),
                cached=cost.cached,
            )

        request = self._policy.request(row.group.messages, index)
        candidate = await ask(self._policy.engine.complete(request), read)
        if isinstance(candidate, Score):
            cost = candidate.cost
            seconds = round(cost.latency_seconds, 6)
            candidate = make(
                None, candidate.outcome, candidate.detail, attempts=cost.attempts, latency_seconds=seconds
            )
        if self._stop.requested and not candidate.completed:
            return  # the next session asks again
        self._file.append(candidate)
        self._observer.sampled(candidate)
        if candidate.completed:
            self._failures.end()
        else:
            self._failures.add(candidate.detail)


def _check(row: SourceRow, count: int, reward: RewardModel) -> SourceRow | InvalidRow:
    try:
        reward.select_target(replace(row.group, responses=("",) * count))
    except ConversationError as error:
        return row.reject(str(error))
    return row


def with_candidates(
    rows: Iterator[SourceRow | InvalidRow], file: CandidateFile, policy: Policy
) -> Iterator[SourceRow | InvalidRow]:
    """Put the candidates that were sampled into the rows."""
    for row in rows:
        yield row if isinstance(row, InvalidRow) else put_candidates(row, file, policy)


def put_candidates(row: SourceRow, file: CandidateFile, policy: Policy) -> SourceRow:
    """Put the candidates that were sampled into a row."""
    sampled = file.read(row.position)
    candidates = [
        sampled.get(index) or _not_sampled(row, index, policy.seed_of(index)) for index in range(policy.count)
    ]
    return replace(row, group=SampledGroup.of_candidates(row.group, candidates))


def _not_sampled(row: SourceRow, index: int, seed: int) -> Candidate:
    return Candidate(row.position, row.group.id, index, seed, None, Outcome.ENGINE_FAILURE, "it was not asked for")


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuse columns that would hold responses."""
    for ours in (*RESPONSE_COLUMNS, *PAIR_COLUMNS):
        if ours in columns:
            raise OptionError(f"--columns: {ours!r} has no place here: the responses are generated")


def open_for_candidates(source: Input) -> Input:
    """Reject the rows of an input that hold responses already.

    Example:
        >>> rows = [RawRow(0, 1, {"prompt": "Name a fruit."}), RawRow(1, 2, {"prompt": "Hi", "response": "Hello!"})]
        >>> prompts = open_for_candidates(Input("rows", read=lambda skip: iter(rows)))
        >>> kept, rejected = prompts.rows()
        >>> kept.values, rejected.reason
        ({'prompt': 'Name a fruit.'}, "the row has a 'response' already, and responses are to be generated")
    """

    def read(skip: Skip) -> Iterator[Row]:
        return (_without_responses(row) if isinstance(row, RawRow) else row for row in source.rows(skip))

    return replace(source, read=read)


def _without_responses(row: RawRow) -> Row:
    for column in RESPONSE_COLUMNS:
        if not is_missing(row.values.get(column)) and row.values[column]:
            reason = f"the row has a {column!r} already, and responses are to be generated"
            return InvalidRow(row.position, row.line, reason)
    return row


def reject_answered(rows: Iterator[SourceRow | InvalidRow]) -> Iterator[SourceRow | InvalidRow]:
    """Reject rows whose conversation ends with an assistant message: it is a response already."""
    for row in rows:
        if isinstance(row, SourceRow) and row.group.messages[-1].role == "assistant":
            yield row.reject("the conversation ends with an assistant message, and responses are to be generated")
        else:
            yield row
