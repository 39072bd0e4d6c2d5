"""`BackwardLikelihoodReward`: how likely a language model finds the instruction, given the response."""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Annotated

from pydantic import Field

from flip_reward.core.cautions import ReliabilityLimits
from flip_reward.core.conversation import Group
from flip_reward.core.prompts import CompletionPrompt, load_completion_prompt
from flip_reward.core.response import InferenceTarget, Target, select_target
from flip_reward.core.score import Cost, Likelihood, Outcome, Score
from flip_reward.engines.base import Engine, LogprobRequest, TokenLogprobs, check_is_engine
from flip_reward.rewards.base import RewardModel, ask, score_each
from flip_reward.rewards.copy_guard import score_guarded
from flip_reward.rewards.options import (
    CopyGuardOptions,
    PromptOptions,
    Settings,
    TargetSetting,
    read_options,
    record_options,
)

PRIORS_KEPT = 10_000
"""How many instructions are remembered; for older ones the model is asked again."""
PRIOR_TOKENS_KEPT = 1_000_000
"""How many tokens they have at most, all together."""


class LikelihoodValue(StrEnum):
    """The reward made of the log-probabilities, in nats, of an instruction x with n tokens after a response y.

    Within a group `sum`, `mean` and `pmi` order responses alike, unless the tokenizer joins the end of a response and
    the beginning of the instruction: n and ln P(x) are those of the instruction. They differ between instructions.
    P(x) is the likelihood in the same prompt with an empty response.
    """

    SUM = "sum"
    """ln P(x | y) = Σ ln p(x_i | y, x_<i), at most 0. Longer instructions are less likely."""
    MEAN = "mean"
    """ln P(x | y) / n, at most 0: minus the logarithm of the perplexity."""
    PMI = "pmi"
    """ln P(x | y) - ln P(x), any number: the pointwise mutual information of instruction and response. Above 0 the
    response made the instruction likelier."""
    SURPRISAL = "surprisal"
    """Σ w_i (ln p(x_i | y, x_<i) - ln p(x_i | x_<i)) / Σ w_i with w_i = -ln p(x_i | x_<i), any number: how much
    likelier the response makes a token, where a token counts as much as there was to learn about it. 0 where every
    token is certain without the response."""

    @property
    def needs_prior(self) -> bool:
        """Whether the likelihood without the response is part of it."""
        return self in (LikelihoodValue.PMI, LikelihoodValue.SURPRISAL)

    def of(self, likelihood: Likelihood) -> float:
        """Compute the value; a ValueError where the likelihood does not hold what it is made of."""
        if self is LikelihoodValue.SUM:
            return likelihood.log_probability
        if self is LikelihoodValue.MEAN:
            return likelihood.log_probability / likelihood.tokens
        if self is LikelihoodValue.SURPRISAL and likelihood.surprisal_weighted is not None:
            return likelihood.surprisal_weighted
        if self is LikelihoodValue.PMI and likelihood.prior_log_probability is not None:
            return likelihood.log_probability - likelihood.prior_log_probability
        raise ValueError(f"the value {self.value!r} needs the likelihood without the response, which is not known")


def weigh_by_surprisal(values: Sequence[float], prior: Sequence[float]) -> float:
    """Average how much likelier each token of a text became, weighted by how unlikely it was before.

    Args:
        values: The log-probability of each token after a response, at least one.
        prior: The same without the response. Where the tokenizer joined the beginning of the text with what stands
            before it, the numbers of tokens differ. Both end alike, so tokens are matched from the end, and what is
            left at the beginning of either counts as one token.

    Example:
        >>> weigh_by_surprisal([-1.0, -1.0], [-3.0, -1.0])
        1.5
    """
    own, before = _join_beginning(values, len(prior)), _join_beginning(prior, len(values))
    surprisal = -math.fsum(before)
    if surprisal <= 0:
        return 0.0
    return math.fsum(-known * (value - known) for value, known in zip(own, before, strict=True)) / surprisal


def _join_beginning(values: Sequence[float], most: int) -> Sequence[float]:
    joined = len(values) - most + 1
    return values if joined < 2 else [math.fsum(values[:joined]), *values[joined:]]


@dataclass(frozen=True)
class BackwardLikelihoodOptions(CopyGuardOptions, PromptOptions):
    """How `BackwardLikelihoodReward` asks."""

    target: TargetSetting = Target.LAST_USER
    likelihood_value: Annotated[
        LikelihoodValue,
        Field(
            description="backward-likelihood: the sum of the log-probabilities, their mean for each token, how much "
            "the response adds to the sum (pmi), or to a token, most of all to those that were hard to foresee "
            "(surprisal)."
        ),
    ] = LikelihoodValue.MEAN


_RECORDED_OTHERWISE = ("template", "template_dir", "likelihood_value", "copy_guard", "copy_guard_share")


class BackwardLikelihoodReward(RewardModel):
    """ln P(instruction | response): FLIP without writing the instruction down.

    One reading of response and instruction, no decoding, and no reply that could be malformed; so models work that
    are too small to follow a template. The engine must give the log-probabilities of a given text.

    Args:
        engine: The language model; None renders prompts only.
        options: How it is asked.
        prompt: A text of your own around response and instruction, in place of the one that the options name.
        limits: The limits of the model, where they are known; responses outside of them get cautions.

    Raises:
        OptionError: There is a share of the copy guard without it.
        TemplateError: There is no such template, or it is malformed.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> engine = ScriptedEngine(logprob_script=lambda request: [-1.0, -2.0])
        >>> [[score]] = BackwardLikelihoodReward(engine).score_sync([Group.of("Name fruits.", "Apples, pears.")])
        >>> score.value, score.likelihood.log_probability
        (-1.5, -3.0)
    """

    def __init__(
        self,
        engine: Engine | None,
        options: BackwardLikelihoodOptions | None = None,
        *,
        prompt: CompletionPrompt | None = None,
        limits: ReliabilityLimits | None = None,
    ) -> None:
        self.engine = check_is_engine(engine)
        self.options = options = read_options(options, BackwardLikelihoodOptions)
        self.response_options = options.response
        self.prompt = prompt or load_completion_prompt(options.template, folder=options.template_dir)
        self.limits = limits
        options.check_guard()
        self._priors: OrderedDict[LogprobRequest, array[float]] = OrderedDict()
        self._prior_tokens = 0

    @property
    def settings(self) -> Settings:
        """Everything but the group that a score depends on."""
        return {
            "reward": "backward-likelihood",
            **self.engine_settings,
            "template": self.prompt.template.name,
            "template_sha256": self.prompt.template.sha256,
            "value": self.options.likelihood_value.value,
            **record_options(self.options, _RECORDED_OTHERWISE, ("target",)),
            **self.options.recorded_guard,
        }

    def select_target(self, group: Group) -> InferenceTarget:
        """Choose the part of the conversation whose likelihood is asked for."""
        return select_target(group.messages, self.options.target)

    def render(self, group: Group) -> list[LogprobRequest | None]:
        """Render the question about every response, without sending anything; None for one without an answer."""
        target = self.select_target(group)
        answers = [self.visible_answer(response) for response in group.responses]
        return [None if isinstance(answer, Outcome) else self._request(answer, target) for answer in answers]

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Score every response of a group, each on its own."""
        if not target.instruction.strip():
            return tuple(Score(None, Outcome.EMPTY_INSTRUCTION) for _ in group.responses)
        answers = [self.visible_answer(response) for response in group.responses]
        prior: _Prior | Score | None = None
        if self.options.likelihood_value.needs_prior and not all(isinstance(one, Outcome) for one in answers):
            prior = await self._ask_prior(target)
        if isinstance(prior, Score):
            return tuple(Score(None, answer) if isinstance(answer, Outcome) else prior for answer in answers)
        scores = await score_each(self._score_answer(answer, target, prior) for answer in answers)
        return scores if prior is None else tuple(_charge_first(scores, prior.cost))

    async def _score_answer(self, answer: str | Outcome, target: InferenceTarget, prior: _Prior | None) -> Score:
        if isinstance(answer, Outcome):
            return Score(None, answer)
        return await score_guarded(answer, target, self.options, partial(self._score, target, prior))

    async def _score(self, target: InferenceTarget, prior: _Prior | None, answer: str) -> Score:
        """Score an answer; that without a word, which the copy guard may leave, is how likely the instruction is."""
        limits = self.limits

        def read(logprobs: TokenLogprobs, cost: Cost) -> Score:
            likelihood = _measure(logprobs.values, None if prior is None else prior.values)
            return Score(
                self.options.likelihood_value.of(likelihood),
                Outcome.SCORED,
                likelihood=likelihood,
                cost=cost,
                cautions=limits.find_cautions(answer) if limits else (),
            )

        return await ask(self.required_engine.logprobs(self._request(answer, target)), read)

    async def _ask_prior(self, target: InferenceTarget) -> _Prior | Score:
        """Ask for the likelihood without a response; an instruction that was asked about before costs nothing."""
        request = self._request("", target)
        known = self._priors.get(request)
        if known is not None:
            return _Prior(known, Cost(cached=True))
        prior = await ask(self.required_engine.logprobs(request), _read_prior)
        if isinstance(prior, _Prior) and request not in self._priors:
            self._priors[request] = prior.values
            self._prior_tokens += len(prior.values)
            while len(self._priors) > PRIORS_KEPT or self._prior_tokens > PRIOR_TOKENS_KEPT:
                self._prior_tokens -= len(self._priors.popitem(last=False)[1])
        return prior

    def _request(self, answer: str, target: InferenceTarget) -> LogprobRequest:
        return LogprobRequest(self.prompt.format(answer, target), target.instruction.strip())


@dataclass(frozen=True, slots=True)
class _Prior:
    """The log-probabilities of an instruction's tokens without a response, and what it took to know them."""

    values: array[float]
    cost: Cost


def _read_prior(logprobs: TokenLogprobs, cost: Cost) -> _Prior:
    return _Prior(array("d", logprobs.values), cost)


def _measure(values: Sequence[float], prior: Sequence[float] | None) -> Likelihood:
    if prior is None:
        return Likelihood(math.fsum(values), len(values))
    return Likelihood(math.fsum(values), len(values), math.fsum(prior), weigh_by_surprisal(values, prior))


def _charge_first(scores: Sequence[Score], cost: Cost) -> list[Score]:
    """Add what the likelihood without a response took to the first score, so that sums stay true."""
    charged = list(scores)
    number = next((number for number, score in enumerate(scores) if score.likelihood is not None), None)
    if number is not None:
        own = scores[number].cost
        both = replace(own, usage=own.usage + cost.usage, attempts=own.attempts + cost.attempts)
        charged[number] = replace(scores[number], cost=both)
    return charged
