"""What a call says about itself: metrics for trackers, and columns for the table of completions.

What tells early that a policy games its reward: longer responses, copied instructions, groups without contrast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from flip_reward.core.response import visible_answer
from flip_reward.core.score import Outcome, Score
from flip_reward.core.tokens import load_normalizer
from flip_reward.integrations.trl.patience import LEFT_OUT, ScoredCall

_NGRAM = 4


def measure_copying(instruction: str, response: str) -> float | None:
    """Return which share of the instruction's 4-grams stands in the response too, 0 to 1.

    Tokens are those of the English normaliser, so case, punctuation and articles do not matter.

    Returns:
        None where the instruction has fewer than four tokens.

    Example:
        >>> measure_copying("Name three fruits that grow on trees.", "Three fruits that grow on trees: apples, ...")
        0.75
        >>> measure_copying("Say hi.", "hi") is None
        True
    """
    wanted = _ngrams(instruction)
    return len(wanted & _ngrams(response)) / len(wanted) if wanted else None


def _ngrams(text: str) -> set[tuple[str, ...]]:
    tokens = load_normalizer("english").tokenize(text)
    return {tuple(tokens[start : start + _NGRAM]) for start in range(len(tokens) - _NGRAM + 1)}


def correlate_ranks(values: Sequence[float], others: Sequence[float]) -> float | None:
    """Compute Spearman's rank correlation, -1 to 1; equal values share the mean of their ranks.

    Returns:
        None where it is not defined: with fewer than two pairs, or when one side does not vary.

    Raises:
        ValueError: There are not as many values as others.

    Example:
        >>> correlate_ranks([0.1, 0.2, 0.9], [10, 20, 15])
        0.5
        >>> correlate_ranks([0.5, 0.5], [1, 2]) is None
        True
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} values cannot be paired with {len(others)}")
    mine, theirs = _center(_rank(values)), _center(_rank(others))
    scale = math.sqrt(_multiply(mine, mine) * _multiply(theirs, theirs))
    return _multiply(mine, theirs) / scale if scale else None


def correlate_within_groups(groups: Sequence[Sequence[float]], lengths: Sequence[Sequence[float]]) -> float | None:
    """Return the mean over groups of the rank correlation of reward and length within each.

    Between groups nothing is compared: some instructions want long responses, and that is no preference for length.

    Args:
        groups: The rewards of each group.
        lengths: The lengths of the same responses.

    Returns:
        None where no group has one.

    Example:
        >>> correlate_within_groups([[0.1, 0.2], [0.8, 0.9], [0.5, 0.5]], [[1, 2], [9, 8], [3, 4]])
        0.0
    """
    pairs = zip(groups, lengths, strict=True)
    found = [one for values, lengths_ in pairs if (one := correlate_ranks(values, lengths_)) is not None]
    return fmean(found) if found else None


def share_without_variance(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the share of groups whose rewards are all the same: they teach a policy nothing.

    Args:
        groups: The rewards of each group. Those with fewer than two count as without variance as well.

    Returns:
        None where there are no groups.

    Example:
        >>> share_without_variance([[0.5, 0.5], [0.1, 0.2], [], [1.0]])
        0.75
    """
    if not groups:
        return None
    return sum(len(set(values)) < 2 for values in groups) / len(groups)


def _rank(values: Sequence[float]) -> list[float]:
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    means = {value: fmean(same) for value, same in places.items()}
    return [means[value] for value in values]


def _center(values: Sequence[float]) -> list[float]:
    mean = fmean(values) if values else 0.0
    return [value - mean for value in values]


def _multiply(values: Sequence[float], others: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(values, others, strict=True))


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
        "prompt_tokens": float(sum(score.cost.usage.prompt_tokens for score in scores)),
        "completion_tokens": float(sum(score.cost.usage.completion_tokens for score in scores)),
        "seconds": call.seconds,
    }
    return {name: value for name, value in found.items() if value is not None}


def describe_samples(call: ScoredCall) -> dict[str, list[str | None]]:
    """Return what stands beside each completion: the inferred instruction and the outcome."""
    return {
        "inferred_instruction": [None if score is None else score.inferred_instruction for score in call.scores],
        "outcome": [LEFT_OUT if score is None else score.outcome.value for score in call.scores],
    }


def measure_call_copying(call: ScoredCall) -> list[float | None]:
    """Return for each sample how much of the instruction its visible answer copies; see `measure_copying`."""
    shares: list[float | None] = []
    for one, instruction in zip(call.groups, call.instructions, strict=True):
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
