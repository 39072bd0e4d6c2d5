"""`Score` and `Outcome`: what comes back for every response, and how several inferences from one become one score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from statistics import fmean, median
from typing import Self

from flip_reward.core.cautions import Caution


class Outcome(StrEnum):
    """Whether a response was scored and, if not, why. Failure is never a low reward.

    Example:
        >>> Outcome("truncated_reply").retryable
        False
    """

    SCORED = "scored"
    EMPTY_RESPONSE = "empty_response"
    """The response is blank: there is nothing to infer an instruction from."""
    UNFINISHED_THINKING = "unfinished_thinking"
    """The response never left its thinking section: there is no answer."""
    EMPTY_INSTRUCTION = "empty_instruction"
    """Nothing of the original instruction is left after normalisation: no similarity is defined."""
    NOTHING_TO_COMPARE = "nothing_to_compare"
    """The reward compares responses, and no other response of the group has an answer."""
    UNDEFINED_VALUE = "undefined_value"
    """What a formula or a function of the user's says is no number here: a division by zero, NaN, None."""
    UNPARSEABLE_REPLY = "unparseable_reply"
    """The model answered, but no verdict could be read from its reply."""
    TRUNCATED_REPLY = "truncated_reply"
    """The reply ended at the token limit before the verdict was complete."""
    EMPTY_REPLY = "empty_reply"
    """The model answered nothing, or an empty verdict."""
    TEMPLATE_ECHO = "template_echo"
    """The model repeated the template's placeholder instead of filling it."""
    CONTEXT_TOO_LONG = "context_too_long"
    """The prompt does not fit the model's context."""
    REQUEST_REFUSED = "request_refused"
    """The engine works, but refuses this request: a content filter, a field it does not take."""
    ENGINE_FAILURE = "engine_failure"
    """The engine failed after every retry."""

    @property
    def retryable(self) -> bool:
        """Whether scoring the same response again may end differently: a matter of the engine, not of the text."""
        return self is Outcome.ENGINE_FAILURE

    def is_final(self, *, retry_refused: bool = False) -> bool:
        """Whether a resumed run leaves a response with this outcome as it is."""
        return not (self.retryable or (retry_refused and self is Outcome.REQUEST_REFUSED))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one or more requests took, as the engine counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """The part of the prompt tokens that the engine took from its prefix cache."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What the requests behind a score took.

    Attributes:
        usage: Tokens spent.
        attempts: How many requests were sent; 0 when none was needed.
        latency_seconds: From the first attempt to the last answer, waiting included.
        cached: The reply came from the response cache.

    Example:
        >>> Cost(Usage(prompt_tokens=40, completion_tokens=9), attempts=2).usage.completion_tokens
        9
    """

    usage: Usage = Usage()
    attempts: int = 0
    latency_seconds: float = 0.0
    cached: bool = False

    @classmethod
    def of_all(cls, costs: Sequence[Cost]) -> Self:
        """Add up what several requests took that waited at the same time."""
        asked = [cost for cost in costs if cost.attempts or cost.cached]
        return cls(
            usage=sum((cost.usage for cost in costs), Usage()),
            attempts=sum(cost.attempts for cost in costs),
            latency_seconds=max(cost.latency_seconds for cost in costs),
            cached=bool(asked) and all(cost.cached for cost in asked),
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One of several inferences from a response, with the fields of a `Score`; `value` is its own similarity."""

    value: float | None
    outcome: Outcome
    precision: float | None = None
    recall: float | None = None
    inferred_instruction: str | None = None
    raw_reply: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely the instruction was, so that another value can be computed later without the model.

    Attributes:
        log_probability: ln P(instruction | response), at most 0: the sum over the instruction's tokens.
        tokens: How many tokens these are, at least 1.
        prior_log_probability: ln P(instruction) without the response, where it was asked for.
        surprisal_weighted: How much likelier the response makes a token, in nats, on average over the tokens weighted
            by -ln p without the response; where that was asked for.
    """

    log_probability: float
    tokens: int
    prior_log_probability: float | None = None
    surprisal_weighted: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What another reward gave the response, where a reward is made of others; `value` as in `Score`."""

    name: str
    value: float | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Reading:
    """What a response is worth in the form that does not count; see `Score.other_reading`.

    Attributes:
        masked: This is the form without the words that it copies; otherwise the response as it is.
        value: As in `Score`.
        outcome: As in `Score`.
        samples: What was inferred from it; empty where no word was left to infer from.
        likelihood: As in `Score`.
    """

    masked: bool
    value: float | None
    outcome: Outcome
    samples: tuple[Sample, ...] = ()
    likelihood: Likelihood | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What one response earned, or why it could not be scored.

    Attributes:
        value: The reward; for FLIP the similarity of the inferred and the original instruction, 0 to 1. None
            exactly when `outcome` is not `Outcome.SCORED`.
        outcome: Whether the response was scored, and if not, why.
        precision: Share of the inferred instruction's tokens found in the original, where the similarity has one.
        recall: Share of the original instruction's tokens found in the inferred one, where it has one.
        inferred_instruction: What the model inferred, when a reply could be read.
        reasoning: The model's explanation, when it gave one.
        raw_reply: The reply as it came, kept so that it can be read again another way. For rewards that compare
            responses the replies attributed to this one, as JSON lines (see
            `flip_reward.core.judgement.read_judgements`).
        detail: One line more on why the response is unscored, or on what its score leaves out.
        cost: What it took: tokens, requests and time.
        spread: With several samples, the standard deviation of their values; None with fewer than two.
        samples: Every sample, where several were drawn; `flip_reward.core.score` says how they become one.
        likelihood: How likely the instruction was, for rewards that ask for that.
        cautions: Why the value has low confidence, where the inferrer's limits are known.
        parts: What the rewards gave that the value is made of, where there are such.
        copied_share: Which share of the instruction's own words the response copies, 0 to 1 (`core.copying`); None
            where it has no answer, or the instruction no words.
        other_reading: Where the copy guard read the response twice, the reading with the higher value. All other
            fields are of the one that counts. Of a formula, the reading of its part, where one alone was read twice.

    Raises:
        ValueError: `value` and `outcome` disagree.

    Example:
        >>> Score(value=0.5, outcome=Outcome.SCORED).value
        0.5
        >>> Score(value=0.0, outcome=Outcome.EMPTY_REPLY)
        Traceback (most recent call last):
        ValueError: a score has a value exactly when it is scored: got 0.0 with empty_reply
    """

    value: float | None
    outcome: Outcome
    precision: float | None = None
    recall: float | None = None
    inferred_instruction: str | None = None
    reasoning: str | None = None
    raw_reply: str | None = None
    detail: str | None = None
    cost: Cost = Cost()
    spread: float | None = None
    samples: tuple[Sample, ...] = ()
    likelihood: Likelihood | None = None
    cautions: tuple[Caution, ...] = ()
    parts: tuple[Part, ...] = ()
    copied_share: float | None = None
    other_reading: Reading | None = None

    def __post_init__(self) -> None:
        if (self.value is not None) != (self.outcome is Outcome.SCORED):
            raise ValueError(
                f"a score has a value exactly when it is scored: got {self.value} with {self.outcome.value}"
            )

    def with_copies(self, share: float, cautions: tuple[Caution, ...]) -> Score:
        """Return the same score with what the response copies. `replace` takes three times as long."""
        return Score(
            self.value,
            self.outcome,
            self.precision,
            self.recall,
            self.inferred_instruction,
            self.reasoning,
            self.raw_reply,
            self.detail,
            self.cost,
            self.spread,
            self.samples,
            self.likelihood,
            cautions,
            self.parts,
            share,
            self.other_reading,
        )


class Aggregation(StrEnum):
    """How the values of several samples become one."""

    MEAN = "mean"
    MAX = "max"
    MEDIAN = "median"
    """For an even number of samples the mean of the two in the middle."""


def aggregate(
    samples: Sequence[Sample],
    aggregation: Aggregation = Aggregation.MEAN,
    *,
    cost: Cost = Cost(),
    cautions: tuple[Caution, ...] = (),
) -> Score:
    """Make one score of the samples of one response.

    Samples without a value are left out, which the score's `detail` says; no value is lower for them. Texts,
    precision and recall are those of a typical sample: the one whose value is nearest to the score's, the first of
    equals. Without a single value the score is unscored with the most frequent outcome, the first of equals, and the
    first sample with that outcome is the typical one.

    Returns:
        A score that holds the samples if there are several, and as `spread` the standard deviation of their values
        (division by their number).
    """
    if not samples:
        raise ValueError("there are no samples to aggregate")
    typical, value, spread, detail = samples[0], samples[0].value, None, None
    if len(samples) > 1:
        values = [sample.value for sample in samples if sample.value is not None]
        if values:
            value = _AGGREGATES[aggregation](values)
            typical = min(samples, key=partial(_distance, value))
            spread = _spread(values)
            detail = describe_left_out(sample.outcome for sample in samples)
        else:
            [(outcome, _)] = Counter(sample.outcome for sample in samples).most_common(1)
            typical = next(sample for sample in samples if sample.outcome is outcome)
    return Score(
        value,
        typical.outcome,
        precision=typical.precision,
        recall=typical.recall,
        inferred_instruction=typical.inferred_instruction,
        reasoning=typical.reasoning,
        raw_reply=typical.raw_reply,
        detail=detail,
        cost=cost,
        spread=spread,
        samples=tuple(samples) if len(samples) > 1 else (),
        cautions=cautions,
    )


def describe_left_out(outcomes: Iterable[Outcome]) -> str | None:
    """Say which samples or replies a score leaves out because they have no value; None when all have one."""
    causes = Counter(outcome.value for outcome in outcomes if outcome is not Outcome.SCORED)
    return "left out: " + ", ".join(f"{count} {cause}" for cause, count in causes.items()) if causes else None


def _distance(value: float, sample: Sample) -> float:
    return math.inf if sample.value is None else abs(sample.value - value)


def _mean(values: Sequence[float]) -> float:
    # Rounded twice, the mean of equal values may miss them by a hair.
    return min(max(fmean(values), min(values)), max(values))


_AGGREGATES: dict[Aggregation, Callable[[Sequence[float]], float]] = {
    Aggregation.MEAN: _mean,
    Aggregation.MAX: max,
    Aggregation.MEDIAN: median,
}


def _spread(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
