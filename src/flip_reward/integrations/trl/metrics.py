"""What a call says about itself: metrics for trackers, and columns for the table of completions.

They tell early that a policy games its reward: longer responses, copied instructions, groups without contrast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import correlation, fmean

from flip_reward.core.score import Outcome
from flip_reward.core.tokens import load_normalizer
from flip_reward.integrations.trl.patience import LEFT_OUT, ScoredCall


def describe_call(call: ScoredCall, lengths: Sequence[int], overlaps: Sequence[float | None]) -> dict[str, float]:
    """Return the metrics of a call by name. Undefined ones are left out.

    - mean, precision, recall: over the scored samples
    - outcomes/NAME: the share of samples with each outcome; all of them, so that averages over steps are right
    - zero_variance: the share of groups whose scored samples all have the same reward
    - length_correlation: the rank correlation of reward and length within groups, the mean over groups
    - instruction_4gram_overlap: the share of the instruction's 4-grams that stands in the response
    - prompt_tokens, completion_tokens: what the reward's model read and wrote for this call
    - seconds: how long the trainer waited
    """
    prompt_tokens = completion_tokens = 0
    outcomes = dict.fromkeys((*Outcome, LEFT_OUT), 0)
    for score in call.scores:
        outcomes[LEFT_OUT if score is None else score.outcome] += 1
        if score is not None:
            prompt_tokens += score.cost.usage.prompt_tokens
            completion_tokens += score.cost.usage.completion_tokens
    scores = [score for score in call.scores if score is not None]
    rewards: list[list[float]] = []
    their_lengths: list[list[int]] = []
    for one in call.groups:
        known = [
            (score.value, lengths[place])
            for place in one.places
            if (score := call.scores[place]) is not None and score.value is not None
        ]
        rewards.append([value for value, _ in known])
        their_lengths.append([length for _, length in known])
    found = {
        "mean": _mean([score.value for score in scores]),
        "precision": _mean([score.precision for score in scores]),
        "recall": _mean([score.recall for score in scores]),
        **{f"outcomes/{name}": count / len(call.scores) for name, count in outcomes.items() if call.scores},
        "zero_variance": share_without_variance(rewards),
        "length_correlation": correlate_within_groups(rewards, their_lengths),
        "instruction_4gram_overlap": _mean(overlaps),
        "prompt_tokens": float(prompt_tokens),
        "completion_tokens": float(completion_tokens),
        "seconds": call.seconds,
    }
    return {name: value for name, value in found.items() if value is not None}


def describe_samples(call: ScoredCall) -> dict[str, list[str | None]]:
    """Return the columns beside each completion: the inferred instruction and the outcome."""
    return {
        "inferred_instruction": [None if score is None else score.inferred_instruction for score in call.scores],
        "outcome": [LEFT_OUT if score is None else score.outcome.value for score in call.scores],
    }


def measure_overlaps(call: ScoredCall, read: Callable[[str], str | Outcome]) -> list[float | None]:
    """Return for each sample how much of the instruction its visible answer copies; see `instruction_4gram_overlap`.

    `read` is the reward's `visible_answer`. None for a sample without one.
    """
    overlaps: list[float | None] = [None] * len(call.scores)
    for one, instruction in zip(call.groups, call.instructions, strict=True):
        wanted = _ngrams(instruction)
        for place, response in zip(one.places, one.group.responses, strict=True):
            answer = read(response)
            if wanted and not isinstance(answer, Outcome):
                overlaps[place] = len(wanted & _ngrams(answer)) / len(wanted)
    return overlaps


def instruction_4gram_overlap(instruction: str, response: str) -> float | None:
    """Return which share of the instruction's 4-grams stands in the response too, 0 to 1.

    Tokens are those of the English normaliser, so case, punctuation and articles do not matter. None where the
    instruction has fewer than four tokens.
    """
    wanted = _ngrams(instruction)
    return len(wanted & _ngrams(response)) / len(wanted) if wanted else None


def _ngrams(text: str) -> set[tuple[str, ...]]:
    tokens = load_normalizer("english").tokenize(text)
    return set(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))


def correlate_ranks(values: Sequence[float], others: Sequence[float]) -> float | None:
    """Compute Spearman's rank correlation, -1 to 1; equal values share the mean of their ranks.

    None where it is not defined: with fewer than two pairs, or when one side does not vary.
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} values cannot be paired with {len(others)}")
    if len(set(values)) < 2 or len(set(others)) < 2:
        return None
    return correlation(_rank(values), _rank(others))


def _rank(values: Sequence[float]) -> list[float]:
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    return [fmean(places[value]) for value in values]


def correlate_within_groups(groups: Sequence[Sequence[float]], lengths: Sequence[Sequence[float]]) -> float | None:
    """Return the mean over groups of the rank correlation of reward and length within each.

    Nothing is compared between groups: an instruction that wants long responses says nothing about a preference for
    length.
    """
    return _mean([correlate_ranks(values, long) for values, long in zip(groups, lengths, strict=True)])


def share_without_variance(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the share of groups without two different rewards, from which nothing can be learned."""
    return sum([len(set(values)) < 2 for values in groups]) / len(groups) if groups else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
