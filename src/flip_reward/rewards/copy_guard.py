"""The copy guard: what copies its instruction is read without the copies too, and the lower value counts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace

from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Cost, Reading, Sample, Score
from flip_reward.rewards.options import CopyGuardOptions
from flip_reward.rewards.waiting import gather_all


def score_guarded(
    answer: str,
    target: InferenceTarget,
    options: CopyGuardOptions,
    score: Callable[[str], Coroutine[object, object, Score]],
) -> Coroutine[object, object, Score]:
    """Score an answer by `score`, and again without what it copies where the guard acts.

    `score` is given "" where no word is left.
    """
    masked = target.copying.mask(answer, options.copy_guard_share) if options.copy_guard else None
    if masked is None:
        return score(answer)
    return _score_both(score(answer), score(masked))


async def _score_both(*readings: Coroutine[object, object, Score]) -> Score:
    return join_readings(*await gather_all(readings))


def join_readings(as_it_is: Score, masked: Score) -> Score:
    """Return the score of a response that was read as it is and without what it copies.

    It is that of the lower reading. Where one has no value there is none: a failure is no high reward either. The
    reading that does not count is kept beside it.

    Example:
        >>> from flip_reward import Outcome
        >>> score = join_readings(Score(0.9, Outcome.SCORED), Score(0.2, Outcome.SCORED))
        >>> score.value, score.other_reading.value, score.other_reading.masked
        (0.2, 0.9, False)
    """
    masked_counts = as_it_is.value is not None and (masked.value is None or masked.value < as_it_is.value)
    counts, other = (masked, as_it_is) if masked_counts else (as_it_is, masked)
    return replace(
        counts,
        cost=Cost.of_all([as_it_is.cost, masked.cost]),
        cautions=as_it_is.cautions,
        other_reading=Reading(
            not masked_counts, other.value, other.outcome, other.samples or _to_samples(other), other.likelihood
        ),
    )


def to_score(reading: Reading) -> Score:
    """Return a reading as the score that it would be."""
    return Score(reading.value, reading.outcome, samples=reading.samples, likelihood=reading.likelihood)


def _to_samples(score: Score) -> tuple[Sample, ...]:
    """Keep a single inference as a sample; a score that was not inferred has none."""
    if score.raw_reply is None and score.inferred_instruction is None:
        return ()
    return (
        Sample(
            score.value,
            score.outcome,
            score.precision,
            score.recall,
            score.inferred_instruction,
            score.raw_reply,
            score.reasoning,
        ),
    )
