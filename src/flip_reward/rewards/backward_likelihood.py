"""`BackwardLikelihoodReward`: how likely a language model finds the instruction, given the response."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from flip_reward.core.cautions import ReliabilityLimits
from flip_reward.core.conversation import Group
from flip_reward.core.prompts import CompletionPrompt, load_completion_prompt
from flip_reward.core.response import InferenceTarget, Target, select_target, visible_answer
from flip_reward.core.score import Likelihood, Outcome, Score, Usage
from flip_reward.engines.base import Engine, LogprobRequest, TokenLogprobs
from flip_reward.rewards.base import Reply, RewardModel, Settings, ask_logprobs, gather_all

PRIORS_KEPT = 10_000
"""So many instructions are remembered; the oldest are asked again."""


class LikelihoodValue(StrEnum):
    """What is made of the log-probabilities of an instruction x with n tokens after a response y, in nats.

    Within a group the three order responses alike, unless the tokenizer joins the end of a response and the
    beginning of the instruction: n and ln P(x) are those of the instruction. They differ in what they say about
    different instructions.
    """

    SUM = "sum"
    """ln P(x | y) = Σ ln p(x_i | y, x_<i), at most 0. Longer instructions are less likely."""
    MEAN = "mean"
    """ln P(x | y) / n, at most 0: minus the logarithm of the perplexity."""
    PMI = "pmi"
    """ln P(x | y) - ln P(x), any number: the pointwise mutual information of instruction and response, where P(x) is
    the likelihood in the same frame with an empty response. Above 0 the response made the instruction likelier."""

    def of(self, likelihood: Likelihood) -> float:
        """Compute the value.

        Raises:
            ValueError: It is `PMI`, and the likelihood has no prior.

        Example:
            >>> LikelihoodValue.MEAN.of(Likelihood(log_probability=-6.0, tokens=4))
            -1.5
            >>> LikelihoodValue.PMI.of(Likelihood(-6.0, 4, prior_log_probability=-10.0))
            4.0
        """
        if self is LikelihoodValue.SUM:
            return likelihood.log_probability
        if self is LikelihoodValue.MEAN:
            return likelihood.log_probability / likelihood.tokens
        if likelihood.prior_log_probability is None:
            raise ValueError("the likelihood without the response is not known")
        return likelihood.log_probability - likelihood.prior_log_probability


@dataclass(frozen=True, slots=True)
class BackwardLikelihoodOptions:
    """How `BackwardLikelihoodReward` asks.

    Attributes:
        frame: The text around response and instruction.
        value: What is made of the log-probabilities.
        target: Which part of the conversation is the instruction.
        reliability_limits: The limits of the model, where they are known; responses outside of them get cautions.
    """

    frame: CompletionPrompt = field(default_factory=load_completion_prompt)
    value: LikelihoodValue = LikelihoodValue.MEAN
    target: Target = Target.LAST_USER
    reliability_limits: ReliabilityLimits | None = None


class BackwardLikelihoodReward(RewardModel):
    """ln P(instruction | response): FLIP without writing the instruction down.

    One reading of response and instruction, no decoding, and no reply that could be malformed; so models work that
    are too small to follow a template. The engine must give the log-probabilities of a given text.

    Args:
        engine: The language model.
        options: How it is asked.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> engine = ScriptedEngine(logprob_script=lambda request: [-1.0, -2.0])
        >>> [[score]] = BackwardLikelihoodReward(engine).score_sync([Group.of("Name fruits.", "Apples, pears.")])
        >>> score.value, score.likelihood.log_probability
        (-1.5, -3.0)
    """

    def __init__(self, engine: Engine, options: BackwardLikelihoodOptions | None = None) -> None:
        self.engine = engine
        self.options = options or BackwardLikelihoodOptions()
        self._priors: OrderedDict[LogprobRequest, Reply[TokenLogprobs]] = OrderedDict()

    @property
    def settings(self) -> Settings:
        """Everything that a score depends on besides the group."""
        template = self.options.frame.template
        return {
            "reward": "backward-likelihood",
            "engine": self.engine.identity,
            "template": template.name,
            "template_sha256": template.sha256,
            "target": self.options.target.value,
            "value": self.options.value.value,
        }

    def instruction_of(self, group: Group) -> str:
        """Return the part of the conversation whose likelihood is asked for."""
        return select_target(group.messages, self.options.target).instruction

    def render(self, group: Group) -> list[LogprobRequest | None]:
        """Render the question about every response, without sending anything; None for one without an answer."""
        inference = select_target(group.messages, self.options.target)
        answers = [visible_answer(response) for response in group.responses]
        return [None if isinstance(answer, Outcome) else self._request(answer, inference) for answer in answers]

    async def score_group(self, group: Group) -> tuple[Score, ...]:
        """Score every response of a group, each on its own."""
        inference = select_target(group.messages, self.options.target)
        if not inference.instruction.strip():
            return tuple(Score(None, Outcome.EMPTY_INSTRUCTION) for _ in group.responses)
        answers = [visible_answer(response) for response in group.responses]
        prior = None
        if self.options.value is LikelihoodValue.PMI and any(isinstance(answer, str) for answer in answers):
            prior = await self._ask_prior(inference)
        scores = await gather_all(self._score(answer, inference, prior) for answer in answers)
        return tuple(scores if prior is None else _charge_first(scores, prior))

    async def _score(
        self, answer: str | Outcome, inference: InferenceTarget, prior: Reply[TokenLogprobs] | None
    ) -> Score:
        if isinstance(answer, Outcome):
            return Score(None, answer)
        if prior is not None and prior.answer is None:
            return prior.unscored()
        reply = await ask_logprobs(self.engine, self._request(answer, inference))
        logprobs = reply.answer
        if logprobs is None:
            return reply.unscored()
        likelihood = Likelihood(
            math.fsum(logprobs.values),
            len(logprobs.values),
            math.fsum(prior.answer.values) if prior is not None and prior.answer is not None else None,
        )
        return Score(
            self.options.value.of(likelihood),
            Outcome.SCORED,
            likelihood=likelihood,
            usage=logprobs.usage,
            attempts=logprobs.attempts,
            latency_seconds=reply.latency_seconds,
            cached=logprobs.cached,
            cautions=self.options.reliability_limits.find_cautions(answer) if self.options.reliability_limits else (),
        )

    async def _ask_prior(self, inference: InferenceTarget) -> Reply[TokenLogprobs]:
        """Ask for the likelihood without a response; what was asked for an instruction before costs nothing."""
        request = self._request("", inference)
        known = self._priors.get(request)
        if known is not None:
            return known
        reply = await ask_logprobs(self.engine, request)
        if reply.answer is not None:
            free = replace(reply.answer, usage=Usage(), attempts=0, cached=True)
            self._priors[request] = replace(reply, answer=free)
            if len(self._priors) > PRIORS_KEPT:
                self._priors.popitem(last=False)
        return reply

    def _request(self, answer: str, inference: InferenceTarget) -> LogprobRequest:
        return LogprobRequest(self.options.frame.fill(answer, inference), inference.instruction.strip())


def _charge_first(scores: Sequence[Score], prior: Reply[TokenLogprobs]) -> list[Score]:
    """Add what the likelihood without a response took to the first score, so that sums stay true."""
    if prior.answer is None:
        return list(scores)
    charged = list(scores)
    number = next((number for number, score in enumerate(scores) if score.likelihood is not None), None)
    if number is not None:
        score = scores[number]
        charged[number] = replace(
            score, usage=score.usage + prior.answer.usage, attempts=score.attempts + prior.answer.attempts
        )
    return charged
