"""One call of TRL scored: groups in, a score for every sample out, with patience for a model that is away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import EngineUnavailableError, NoLogprobsError
from flip_reward.integrations.samples import SampleGroup
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.waiting import gather_all

Say = Callable[[str], None]

LEFT_OUT = "truncated"
"""Stands for the outcome of a completion that is masked."""
_NOT_ASKED = frozenset(
    {Outcome.EMPTY_RESPONSE, Outcome.UNFINISHED_THINKING, Outcome.EMPTY_INSTRUCTION, Outcome.NOTHING_TO_COMPARE}
)
"""What is known of a sample without the model."""


@dataclass(frozen=True, slots=True)
class ScoredCall:
    """The result of a call."""

    groups: Sequence[SampleGroup]
    instructions: Sequence[str]
    """What the responses of each group are scored against."""
    scores: Sequence[Score | None]
    """One for each sample; None for those that are masked because they are truncated."""
    seconds: float
    """How long the trainer waited."""
    problem: str | None = None
    """Why too much of it is unscored for a training to go on."""

    @property
    def rewards(self) -> list[float | None]:
        """The reward of each sample, None where there is none."""
        return [None if score is None else score.value for score in self.scores]


class PatientScorer:
    """Scores calls, and waits for a model that went away. `say` is told about waiting."""

    def __init__(self, reward: RewardModel, options: TrlOptions, say: Say) -> None:
        self._reward, self._options, self._say = reward, options, say
        self._answered = False

    async def score(self, groups: Sequence[SampleGroup], masked: frozenset[int] = frozenset()) -> ScoredCall:
        """Score the samples of a call, all at once; masked ones are not scored, and not shown to others.

        An `EngineUnavailableError` says that the model has never answered and never will.
        """
        started = time.perf_counter()
        targets = [self._reward.select_target(one.group) for one in groups]
        samples = sum([len(one.places) for one in groups])
        wanted = [*zip(groups, targets, strict=True)]
        if masked:
            wanted = _only(wanted, set(range(samples)) - masked)
        asked = wanted
        scores: dict[int, Score] = {}
        while True:
            scores |= await self._ask(asked)
            unscored = {place: score for place, score in scores.items() if score.value is None}
            lost = {place for place, score in unscored.items() if score.outcome.retryable}
            if not lost or self._is_enough(len(lost), scores, time.perf_counter() - started):
                break
            self._say(
                f"The reward's model does not answer{_quote(unscored)}: {len(lost)} of {len(scores)} samples are "
                f"unscored. Asking again in {self._options.outage_poll_seconds:g} s"
            )
            await asyncio.sleep(self._options.outage_poll_seconds)
            asked = self._unanswered(wanted, lost)
        problem = self._find_problem(scores, unscored) if unscored else None
        if problem is None and samples and len(unscored) == len(scores):
            counts = _count([*(score.outcome.value for score in scores.values()), *[LEFT_OUT] * len(masked)])
            self._say(f"None of the {samples} samples of a batch has a score: {counts}")
        return ScoredCall(
            groups,
            [target.instruction for target in targets],
            [scores.get(place) for place in range(samples)],
            time.perf_counter() - started,
            problem,
        )

    async def _ask(self, asked: Sequence[tuple[SampleGroup, InferenceTarget]]) -> dict[int, Score]:
        """Score groups; return each score by its place in the call."""
        try:
            found = await gather_all([self._reward.score_target(one.group, target) for one, target in asked])
        except EngineUnavailableError as error:
            if isinstance(error, NoLogprobsError) or not self._answered:
                raise
            lost = Score(None, Outcome.ENGINE_FAILURE, detail=str(error))
            return {place: lost for one, _ in asked for place in one.places}
        self._answered = True
        return {
            place: score
            for (one, _), scores in zip(asked, found, strict=True)
            for place, score in zip(one.places, scores, strict=True)
        }

    def _unanswered(
        self, wanted: Sequence[tuple[SampleGroup, InferenceTarget]], lost: set[int]
    ) -> list[tuple[SampleGroup, InferenceTarget]]:
        """Return what to ask again: the lost samples; for rewards that compare, every group that lost one."""
        if self._reward.independent:
            return _only(wanted, lost)
        return [(one, target) for one, target in wanted if lost.intersection(one.places)]

    def _is_enough(self, lost: int, scores: Mapping[int, Score], waited_seconds: float) -> bool:
        if waited_seconds >= self._options.outage_timeout_seconds:
            return True
        return lost <= self._options.max_unscored_share * len(scores) and not _is_silent(scores)

    def _find_problem(self, scores: Mapping[int, Score], unscored: Mapping[int, Score]) -> str | None:
        counts = _count(score.outcome.value for score in unscored.values())
        failed = f"{len(unscored)} of {len(scores)} samples could not be scored: {counts}{_quote(unscored)}"
        if len(unscored) > self._options.max_unscored_share * len(scores):
            return f"{failed}, which is more than max_unscored_share={self._options.max_unscored_share:g}"
        return f"{failed}; the reward's model answered nothing" if _is_silent(scores) else None


def _only(
    groups: Sequence[tuple[SampleGroup, InferenceTarget]], places: set[int]
) -> list[tuple[SampleGroup, InferenceTarget]]:
    return [(part, target) for one, target in groups if (part := one.only(places)) is not None]


def _is_silent(scores: Mapping[int, Score]) -> bool:
    """Whether the model was asked, and answered nothing."""
    outcomes = {score.outcome for score in scores.values()} - _NOT_ASKED
    return bool(outcomes) and all(outcome.retryable for outcome in outcomes)


def _count(outcomes: Iterable[str]) -> str:
    return ", ".join(f"{outcome} {count}" for outcome, count in Counter(outcomes).most_common())


def _quote(unscored: Mapping[int, Score]) -> str:
    """Return in brackets the first thing that was said about a failure."""
    detail = next((score.detail for score in unscored.values() if score.detail), None)
    return f" ({detail})" if detail else ""
