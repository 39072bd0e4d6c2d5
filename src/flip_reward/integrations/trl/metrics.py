"""What a call says about itself: metrics for trackers, and columns for the table of completions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from flip_reward.core.response import visible_answer
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import ConversationError
from flip_reward.integrations.trl.patience import LEFT_OUT, ScoredCall
from flip_reward.integrations.trl.trl_statistics import (
    correlate_within_groups,
    measure_copying,
    share_without_variance,
)
from flip_reward.rewards.base import RewardModel


def describe_call(call: ScoredCall, lengths: Sequence[int], copied: Sequence[float | None]) -> dict[str, float]:
    """Return the metrics of a call by name. What is not defined for this call is left out.

    - mean, precision, recall: over the scored samples
    - outcomes/NAME: the share of samples with each outcome; all of them, so that averages over steps are right
    - zero_variance: the share of groups whose scored samples all have the same reward
    - length_correlation: the rank correlation of reward and length within groups, the mean over groups
    - copied_4grams: the share of the instruction's 4-grams that stands in the response
    - prompt_tokens, completion_tokens: what the reward's model read and wrote for this call
    - seconds: how long the trainer waited

    Args:
        call: What came of it.
        lengths: The length of each sample.
        copied: How much of the instruction each copies, as `measure_call_copying` says.
    """
    scores = [score for score in call.scores if score is not None]
    outcomes = [LEFT_OUT if score is None else score.outcome.value for score in call.scores]
    found: dict[str, float | None] = {
        "mean": _mean([score.value for score in scores]),
        "precision": _mean([score.precision for score in scores]),
        "recall": _mean([score.recall for score in scores]),
        **{f"outcomes/{name}": outcomes.count(name) / len(outcomes) for name in (*Outcome, LEFT_OUT) if outcomes},
        **_describe_groups(call, lengths),
        "copied_4grams": _mean(copied),
        "prompt_tokens": float(sum(score.usage.prompt_tokens for score in scores)),
        "completion_tokens": float(sum(score.usage.completion_tokens for score in scores)),
        "seconds": call.seconds,
    }
    return {name: value for name, value in found.items() if value is not None}


def describe_samples(call: ScoredCall) -> dict[str, list[str | None]]:
    """Return what stands beside each completion: the inferred instruction and the outcome."""
    return {
        "inferred_instruction": [None if score is None else score.inferred_instruction for score in call.scores],
        "outcome": [LEFT_OUT if score is None else score.outcome.value for score in call.scores],
    }


def measure_call_copying(reward: RewardModel, call: ScoredCall) -> list[float | None]:
    """Return for each sample how much of the instruction its visible answer copies; see `measure_copying`."""
    shares: list[float | None] = []
    for one in call.groups:
        try:
            instruction = reward.instruction_of(one.group)
        except ConversationError:
            instruction = ""
        for response in one.group.responses:
            answer = visible_answer(response)
            shares.append(None if isinstance(answer, Outcome) else measure_copying(instruction, answer))
    return shares


def _describe_groups(call: ScoredCall, lengths: Sequence[int]) -> dict[str, float | None]:
    rewards: list[list[float]] = []
    kept_lengths: list[list[float]] = []
    for one in call.groups:
        pairs = [(value, lengths[place]) for place in one.places if (value := _value(call.scores[place])) is not None]
        rewards.append([value for value, _ in pairs])
        kept_lengths.append([length for _, length in pairs])
    return {
        "zero_variance": share_without_variance(rewards),
        "length_correlation": correlate_within_groups(rewards, kept_lengths),
    }


def _value(score: Score | None) -> float | None:
    return None if score is None else score.value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
