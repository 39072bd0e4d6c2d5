"""What a call says about itself: metrics for trackers, and columns for the table of completions.

They tell early that a policy games its reward: longer responses, copied instructions, groups without contrast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flip_reward.audit.monitor.correlation import correlate_within_groups, mean
from flip_reward.audit.monitor.figures import (
    measure_likeness,
    measure_noise,
    measure_saturation,
    tokenize,
)
from flip_reward.core.response import visible_answer
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
    - copied_correlation: as length_correlation, for the share of the instruction's own words that is copied
    - saturation: the share of rewards of 0.95 or more, where the reward is a similarity
    - noise: the share of the variance of rewards that comes from drawing inferences, where there are several for each
    - jaccard: how many of the 3-grams of two responses are in both, on average
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
    rewards = call.rewards
    groups = [
        [(place, value) for place in one.places if (value := rewards[place]) is not None] for one in call.groups
    ]
    similarities = [score.value for score in scores if score.value is not None and score.precision is not None]
    known = [value for value in rewards if value is not None]
    shares = [None if score is None else score.copied_share for score in call.scores]
    spreads = [(score.spread, len(score.samples)) for score in scores if score.spread is not None]
    answers = [visible_answer(response) for one in call.groups for response in one.group.responses]
    found = {
        "mean": mean([score.value for score in scores]),
        "precision": mean([score.precision for score in scores]),
        "recall": mean([score.recall for score in scores]),
        **{f"outcomes/{name}": count / len(call.scores) for name, count in outcomes.items() if call.scores},
        "zero_variance": share_without_variance([[value for _, value in group] for group in groups]),
        "length_correlation": correlate_within_groups([[(lengths[a], value) for a, value in one] for one in groups]),
        "instruction_4gram_overlap": mean(overlaps),
        "copied_correlation": correlate_within_groups(
            [[(share, value) for place, value in one if (share := shares[place]) is not None] for one in groups]
        ),
        "saturation": measure_saturation(similarities, 1.0, 0.0),
        "noise": measure_noise(known, spreads),
        "jaccard": measure_likeness([tokenize(text) for text in answers if not isinstance(text, Outcome)], seed=0),
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
        for place, response in zip(one.places, one.group.responses, strict=True):
            answer = read(response)
            if not isinstance(answer, Outcome):
                overlaps[place] = instruction_4gram_overlap(instruction, answer)
    return overlaps


def instruction_4gram_overlap(instruction: str, response: str) -> float | None:
    """Return which share of the instruction's 4-grams stands in the response too, 0 to 1.

    Tokens are those of the English normaliser, so case, punctuation and articles do not matter. None where the
    instruction has fewer than four tokens.
    """
    wanted = _fourgrams(instruction)
    return len(wanted & _fourgrams(response)) / len(wanted) if wanted else None


def _fourgrams(text: str) -> set[tuple[str, ...]]:
    tokens = load_normalizer("english").tokenize(text)
    return set(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))


def share_without_variance(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the share of groups without two different rewards, from which nothing can be learned."""
    return sum([len(set(values)) < 2 for values in groups]) / len(groups) if groups else None
