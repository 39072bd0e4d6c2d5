"""Scores as the bare numbers that other contracts have room for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flip_reward.core.score import Outcome, Score
from flip_reward.server.problems import ApiError, Problem, RowError
from flip_reward.server.scorer import Result
from flip_reward.server.settings import OnUnscored, UnscoredPolicy

RETRY_FAILURE_AFTER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Numbers:
    """Rewards as a contract without outcomes shows them.

    Attributes:
        values: One for each response, in order; None for an unscored one where the user chose null.
        scored: Which of them are rewards, and not what stands for an unscored response.
        prompt_tokens: What the engine read.
        completion_tokens: What it wrote.
    """

    values: tuple[float | None, ...]
    scored: tuple[bool, ...]
    prompt_tokens: int
    completion_tokens: int


def to_numbers(results: Sequence[Result], sizes: Iterable[int], policy: UnscoredPolicy) -> Numbers:
    """Flatten results to numbers, with what the user chose in the place of unscored responses.

    Args:
        results: What became of each row.
        sizes: How many responses each row has, for a row that failed as a whole has no scores.
        policy: What stands for an unscored response.

    Raises:
        ApiError: A response is unscored, and that is an error: 503 where asking again may help, 422 where not.

    Example:
        >>> results = [(Score(0.5, Outcome.SCORED), Score(None, Outcome.EMPTY_RESPONSE))]
        >>> to_numbers(results, [2], UnscoredPolicy(OnUnscored.NULL)).values
        (0.5, None)
    """
    values: list[float | None] = []
    prompt_tokens = completion_tokens = 0
    for result, size in zip(results, sizes, strict=True):
        if isinstance(result, RowError):
            values += [None] * size
            continue
        for score in result:
            values.append(score.value)
            prompt_tokens += score.cost.usage.prompt_tokens
            completion_tokens += score.cost.usage.completion_tokens
    scored = tuple(value is not None for value in values)
    if not all(scored):
        if policy.choice is OnUnscored.ERROR:
            raise _failure(results)
        values = [policy.value if value is None else value for value in values]
    return Numbers(tuple(values), scored, prompt_tokens, completion_tokens)


def _failure(results: Sequence[Result]) -> ApiError:
    reasons = [reason for number, result in enumerate(results) for reason in _reasons(number, result)]
    shown = "; ".join(text for text, _ in reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
    message = f"{len(reasons)} of the request's rows or responses are unscored: {shown}"
    if any(retryable for _, retryable in reasons):
        return ApiError(503, Problem.ENGINE_FAILURE, message, retry_after_seconds=RETRY_FAILURE_AFTER_SECONDS)
    return ApiError(422, Problem.UNSCORED, message)


def _reasons(number: int, result: Result) -> list[tuple[str, bool]]:
    if isinstance(result, RowError):
        return [(f"row {number}: {result.message}", False)]
    return [(_reason(number, score), score.outcome.retryable) for score in result if score.value is None]


def _reason(number: int, score: Score) -> str:
    detail = f" ({score.detail})" if score.detail and score.outcome is Outcome.ENGINE_FAILURE else ""
    return f"row {number}: {score.outcome.value}{detail}"
