"""One call of TRL scored: groups in, a score for every sample out, with patience for a model that is away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import EngineUnavailableError, NoLogprobsError
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.integrations.trl_groups import SampleGroup
from flip_reward.rewards.base import RewardModel, gather_all

Say = Callable[[str], None]
Scores = dict[int, Score]
"""Scores by the sample's place in the call."""

LEFT_OUT = "truncated"
"""Stands for the outcome of a completion that was left out."""
_NOT_ASKED = frozenset(
    {Outcome.EMPTY_RESPONSE, Outcome.UNFINISHED_THINKING, Outcome.EMPTY_INSTRUCTION, Outcome.NOTHING_TO_COMPARE}
)
"""What is known of a sample without the model."""


@dataclass(frozen=True, slots=True)
class ScoredCall:
    """What came of a call.

    Attributes:
        groups: The groups of the call.
        instructions: What the responses of each group are scored against.
        scores: One for each sample; None for those that were left out because they are truncated.
        seconds: How long the trainer waited.
        problem: Why too much of it is unscored for a training to go on; None when enough is scored.
    """

    groups: Sequence[SampleGroup]
    instructions: Sequence[str]
    scores: Sequence[Score | None]
    seconds: float
    problem: str | None = None

    @property
    def rewards(self) -> list[float | None]:
        """The reward of each sample, None where there is none."""
        return [None if score is None else score.value for score in self.scores]


class PatientScorer:
    """Scores calls, and waits for a model that went away.

    Args:
        reward: What scores.
        options: How long it waits, and when it gives up.
        say: Told about waiting.
    """

    def __init__(self, reward: RewardModel, options: TrlOptions, say: Say) -> None:
        self._reward, self._options, self._say = reward, options, say
        self._answered = False

    async def score(self, groups: Sequence[SampleGroup], left_out: frozenset[int] = frozenset()) -> ScoredCall:
        """Score the samples of a call, all at once.

        Args:
            groups: Their groups.
            left_out: Samples that are not scored, and that are not shown to rewards that compare.

        Raises:
            EngineUnavailableError: The model has never answered and never will.
            ConversationError: A prompt has no instruction.
        """
        started = time.perf_counter()
        targets = [self._reward.select_target(one.group) for one in groups]
        samples = sum(len(one.group.responses) for one in groups)
        wanted = {place for one in groups for place in one.places} - left_out
        scores: Scores = {}
        while True:
            missing = frozenset(place for place in wanted if place not in scores or scores[place].outcome.retryable)
            scores |= await self._ask(groups, targets, left_out, missing)
            away = sum(score.outcome.retryable for score in scores.values())
            waited = time.perf_counter() - started
            enough = away <= self._options.max_unscored_share * len(wanted) and not _is_silent(scores)
            if enough or waited >= self._options.patience_seconds:
                break
            self._say(
                f"The reward's model does not answer{_quote(scores)}: {away} of {len(wanted)} samples are "
                f"unscored. Asking again in {self._options.pause_seconds:g} s"
            )
            await asyncio.sleep(self._options.pause_seconds)
        call = ScoredCall(
            groups,
            [target.instruction for target in targets],
            [scores.get(place) for place in range(samples)],
            time.perf_counter() - started,
            self._find_problem(scores),
        )
        if call.problem is None and samples and all(reward is None for reward in call.rewards):
            counts = _count([score.outcome.value if score else LEFT_OUT for score in call.scores])
            self._say(f"None of the {samples} samples of a batch has a score: {counts}")
        return call

    async def _ask(
        self,
        groups: Sequence[SampleGroup],
        targets: Sequence[InferenceTarget],
        left_out: frozenset[int],
        missing: frozenset[int],
    ) -> Scores:
        """Score the missing samples; of rewards that compare, every group that misses one."""
        asked: list[tuple[list[int], Group, InferenceTarget]] = []
        for one, target in zip(groups, targets, strict=True):
            if self._reward.independent:
                places = [place for place in one.places if place in missing]
            else:
                places = [place for place in one.places if place not in left_out]
                places = places if missing.intersection(places) else []
            if places:
                asked.append((places, one.group.only([place - one.start for place in places]), target))
        try:
            found = await gather_all(self._reward.score_responses(part, target) for _, part, target in asked)
        except EngineUnavailableError as error:
            if isinstance(error, NoLogprobsError) or not self._answered:
                raise
            lost = Score(None, Outcome.ENGINE_FAILURE, detail=str(error))
            return {place: lost for places, _, _ in asked for place in places}
        self._answered = True
        return {
            place: score
            for (places, _, _), scores in zip(asked, found, strict=True)
            for place, score in zip(places, scores, strict=True)
        }

    def _find_problem(self, scores: Scores) -> str | None:
        unscored = [score.outcome.value for score in scores.values() if score.value is None]
        failed = f"{len(unscored)} of {len(scores)} samples could not be scored: {_count(unscored)}{_quote(scores)}"
        if len(unscored) > self._options.max_unscored_share * len(scores):
            return f"{failed}, which is more than max_unscored_share={self._options.max_unscored_share:g}"
        return f"{failed}; the reward's model answered nothing" if _is_silent(scores) else None


def _is_silent(scores: Scores) -> bool:
    """Whether the model was asked, and answered nothing."""
    outcomes = {score.outcome for score in scores.values()} - _NOT_ASKED
    return bool(outcomes) and all(outcome.retryable for outcome in outcomes)


def _count(outcomes: Sequence[str]) -> str:
    return ", ".join(f"{outcome} {count}" for outcome, count in Counter(outcomes).most_common())


def _quote(scores: Scores) -> str:
    """Return in brackets the first thing that was said about a failure."""
    details = (score.detail for score in scores.values() if score.value is None and score.detail)
    detail = next(details, None)
    return f" ({detail})" if detail else ""
