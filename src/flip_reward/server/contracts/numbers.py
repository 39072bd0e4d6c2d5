"""Scores as bare numbers, for contracts that have no room for outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flip_reward.core.score import Outcome
from flip_reward.rewards.unscored import UnscoredAction, UnscoredPolicy
from flip_reward.server.problems import ApiError, Problem, RowError, engine_failed
from flip_reward.server.scorer import Result


@dataclass(frozen=True, slots=True)
class Numbers:
    """The rewards of a request."""

    values: tuple[float | None, ...]
    """One for each response, in order; None for an unscored one where the user chose null."""
    scored: tuple[bool, ...]
    """Which of them are rewards, rather than stand for an unscored response."""
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """The tokens as vLLM's contracts show them."""
        total = self.prompt_tokens + self.completion_tokens
        tokens = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return {**tokens, "total_tokens": total}


def to_numbers(results: Sequence[Result], sizes: Sequence[int], policy: UnscoredPolicy) -> Numbers:
    """Flatten results to numbers; the policy says what stands for an unscored response.

    A row that failed as a whole has no scores, so `sizes` says how many responses each row has. Where the policy is
    to raise, the error is a 503 when asking again may help; else a 413 if all rows are too large, or a 422.
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
        if policy.action is UnscoredAction.RAISE:
            raise _failure(results)
        values = [policy.constant if value is None else value for value in values]
    return Numbers(tuple(values), scored, prompt_tokens, completion_tokens)


def _failure(results: Sequence[Result]) -> ApiError:
    reasons: list[str] = []
    retryable = False
    for number, result in enumerate(results):
        if isinstance(result, RowError):
            reasons.append(f"row {number}: {result.message}")
            continue
        for score in result:
            if score.value is None:
                detail = f" ({score.detail})" if score.detail and score.outcome is Outcome.ENGINE_FAILURE else ""
                reasons.append(f"row {number}: {score.outcome.value}{detail}")
                retryable = retryable or score.outcome.retryable
    shown = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
    message = f"{len(reasons)} of the request's rows or responses are unscored: {shown}"
    if retryable:
        return engine_failed(message)
    if all(isinstance(result, RowError) and result.problem is Problem.TOO_LARGE for result in results):
        return ApiError(413, Problem.TOO_LARGE, message)
    return ApiError(422, Problem.UNSCORED, message)
