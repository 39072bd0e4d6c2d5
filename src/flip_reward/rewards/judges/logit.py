"""`LogitPointwiseJudge`, `LogitPairwiseJudge`: judges whose verdict is how likely each answer is, not one of them.

The model is asked for one token, and the probabilities of those that the reply could begin with are read. So nothing
is parsed, and verdicts are as fine as the probabilities: two responses are hardly ever rated alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, permutations
from typing import Annotated, ClassVar

from pydantic import Field

from flip_reward.core.conversation import Group, Message
from flip_reward.core.judgement import Judgement
from flip_reward.core.prompts import JudgeKind, Template, render_pair, render_text
from flip_reward.core.replies.ending import Ending
from flip_reward.core.replies.first_token import AnswerOdds, weigh_answers, write_alternatives
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.engines.base import Completion, Engine, Request, Sampling
from flip_reward.rewards.base import ask
from flip_reward.rewards.judges.base import GroupJudge, JudgeCall, JudgeInput, ResponseJudge
from flip_reward.rewards.judges.pairwise import Pairing, play_round_robin
from flip_reward.rewards.options import PromptOptions, Settings, read_options
from flip_reward.rewards.waiting import gather_all

TOP_LOGPROBS = 20
"""How many tokens are asked for: what OpenAI and vLLM give at most. Every engine is asked for the same."""


class LogitScale(StrEnum):
    """What `LogitPointwiseJudge` asks, and the reward that it makes of the probabilities."""

    YES = "yes"
    """Whether the response is good: ln P(Yes) - ln P(No), in nats, any number. Above 0 it is rather good than not.
    The probability, 1 / (1 + e^-reward), would round to 1 for many good responses."""
    RATING = "rating"
    """A digit from 1 to 9: the expected one. 10 would be two tokens to most models, of which the first is 1's."""

    @property
    def kind(self) -> JudgeKind:
        """The judge's template."""
        return JudgeKind.LOGIT_YES if self is LogitScale.YES else JudgeKind.LOGIT_RATING

    @property
    def answers(self) -> Sequence[str]:
        """What the reply may begin with."""
        return ("Yes", "No") if self is LogitScale.YES else "123456789"

    def of(self, odds: AnswerOdds) -> float:
        """Compute the reward."""
        return odds.log_odds("Yes", "No") if self is LogitScale.YES else odds.expect()


@dataclass(frozen=True)
class LogitPairwiseOptions(PromptOptions):
    """How `LogitPairwiseJudge` asks. Each pair is shown in both orders."""

    panel: ClassVar[str] = "Judges"


@dataclass(frozen=True)
class LogitPointwiseOptions(LogitPairwiseOptions):
    """How `LogitPointwiseJudge` asks."""

    logit_scale: Annotated[
        LogitScale,
        Field(
            description="logit-pointwise: 'yes' gives the log-odds of Yes against No, 'rating' the expected digit, "
            "1 to 9."
        ),
    ] = LogitScale.YES


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How likely each answer is, or why that is not known."""

    outcome: Outcome
    odds: AnswerOdds | None = None
    raw_reply: str | None = None
    detail: str | None = None
    cost: Cost = Cost()


async def _ask_verdict(engine: Engine, request: Request, answers: Sequence[str]) -> _Verdict:
    def read(completion: Completion, cost: Cost) -> _Verdict:
        if not completion.top_logprobs:
            thinks = completion.text or Ending.of(completion.finish_reason) is Ending.CUT
            why = _THINKS if thinks else completion.detail or "the reply is empty"
            return _Verdict(Outcome.EMPTY_REPLY, None, completion.text, why, cost)
        odds, raw_reply = weigh_answers(completion.top_logprobs, answers), write_alternatives(completion.top_logprobs)
        if not odds.is_answer:
            return _Verdict(Outcome.UNPARSEABLE_REPLY, None, raw_reply, odds.explain(), cost)
        return _Verdict(Outcome.SCORED, odds, raw_reply, None, cost)

    verdict = await ask(engine.complete(request), read)
    if isinstance(verdict, Score):
        return _Verdict(verdict.outcome, detail=verdict.detail, cost=verdict.cost)
    return verdict


_THINKS = "the model reasons before it answers; switch thinking off with --no-thinking"


def _make_request(messages: tuple[Message, ...]) -> Request:
    return Request(messages, Sampling(max_tokens=1), top_logprobs=TOP_LOGPROBS)


class LogitPointwiseJudge(ResponseJudge):
    """A judge that sees the conversation and one response; the reward is made of how likely its answers are.

    See `LogitScale`. Where the model hardly begins with any of the answers (`LEAST_MASS`), the response is unscored.
    The likeliest tokens are kept in the score's `raw_reply`.

    Args:
        engine: The judging model; None renders prompts only.
        options: How it is asked.
        template: A prompt of your own, in place of the package's.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> engine = ScriptedEngine(first_token_script=lambda request: [("Yes", -0.25), ("No", -1.75)])
        >>> [[score]] = LogitPointwiseJudge(engine).score_sync(
        ...     [Group.of("Name three fruits.", "Apples, pears, plums.")]
        ... )
        >>> score.value
        1.5
    """

    recorded_otherwise = ("logit_scale",)

    def __init__(
        self, engine: Engine | None, options: LogitPointwiseOptions | None = None, *, template: Template | None = None
    ) -> None:
        self.options = read_options(options, LogitPointwiseOptions)
        self.kind = self.options.logit_scale.kind
        super().__init__(engine, self.options, template)

    @property
    def settings(self) -> Settings:
        """Everything but the group that a score depends on."""
        return {**super().settings, "reward": "logit-pointwise", "scale": self.options.logit_scale.value}

    async def _judge(self, judged: JudgeInput, answer: str) -> Score:
        scale = self.options.logit_scale
        verdict = await _ask_verdict(self.required_engine, self._request(judged, answer), scale.answers)
        value = None if verdict.odds is None else scale.of(verdict.odds)
        return Score(value, verdict.outcome, raw_reply=verdict.raw_reply, detail=verdict.detail, cost=verdict.cost)

    def _request(self, judged: JudgeInput, answer: str) -> Request:
        return _make_request(self._write_prompt(judged, {"response": render_text(answer)}))


@dataclass(frozen=True, slots=True)
class LogitPairing(Pairing):
    """Two responses, and the log-odds of the first of them in each order that gave a verdict."""

    log_odds: tuple[float, ...] = ()

    def points(self, index: int) -> float | None:
        """The probability that a response is the better one, by the mean of the log-odds; None as in `Pairing`.

        A place that is preferred by the same odds in both orders cancels out.
        """
        if self.failures:
            return None
        mean = math.fsum(self.log_odds) / len(self.log_odds)
        return _to_probability(mean if index == self.one else -mean)


def _to_probability(log_odds: float) -> float:
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)


class LogitPairwiseJudge(GroupJudge):
    """A judge that sees two responses in both orders; the reward is made of how likely it answers A and B.

    The log-odds of both orders are averaged, and a response earns the mean, over all others, of the probability that
    it is the better one: 0 to 1. N responses take N(N-1) requests. How often the order decided can be counted as for
    `PairwiseJudge`.

    Args:
        engine: The judging model; None renders prompts only.
        options: How it is asked.
        template: A prompt of your own, in place of the package's.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> first = ScriptedEngine(first_token_script=lambda request: [("A", -0.1), ("B", -2.4)])
        >>> [scores] = LogitPairwiseJudge(first).score_sync([Group.of("Name a fruit.", ["Pear.", "Bread."])])
        >>> [score.value for score in scores]
        [0.5, 0.5]
    """

    kind = JudgeKind.LOGIT_PAIRWISE

    def __init__(
        self, engine: Engine | None, options: LogitPairwiseOptions | None = None, *, template: Template | None = None
    ) -> None:
        super().__init__(engine, read_options(options, LogitPairwiseOptions), template)

    def render(self, group: Group) -> list[Request | None]:
        """Render all requests, without sending anything."""
        judged = JudgeInput.of(group, self.select_target(group), self.visible_answer)
        pairs = combinations(judged.answers, 2)
        return [self._request(judged, order) for pair in pairs for order in permutations(pair)]

    async def _compare(self, group: Group, shown: JudgeInput) -> tuple[Mapping[int, Score], Sequence[JudgeCall]]:  # noqa: ARG002
        async def play(one: int, other: int) -> Pairing:
            chosen = await gather_all(self._choose(shown, order) for order in ((one, other), (other, one)))
            calls = tuple([choice.call for choice in chosen])
            log_odds = [choice.log_odds_of(one) for choice in chosen]
            return LogitPairing(one, other, calls, tuple([odds for odds in log_odds if odds is not None]))

        standings = await play_round_robin(list(shown.answers), play)
        return standings.scores, [call for match in standings.matches for call in match.calls]

    async def _choose(self, judged: JudgeInput, order: tuple[int, int]) -> _Choice:
        verdict = await _ask_verdict(self.required_engine, self._request(judged, order), "AB")
        log_odds = None if verdict.odds is None else verdict.odds.log_odds("A", "B")
        chosen = None if log_odds is None else order[log_odds < 0]
        judgement = Judgement(order, verdict.outcome, chosen, verdict.raw_reply)
        how_likely = None if log_odds is None else f"{_to_probability(abs(log_odds)):.1%}"
        return _Choice(JudgeCall(judgement, how_likely, verdict.detail, verdict.cost), log_odds)

    def _request(self, judged: JudgeInput, order: Sequence[int]) -> Request:
        return _make_request(self._write_prompt(judged, render_pair(*judged.show(order).values())))


@dataclass(frozen=True, slots=True)
class _Choice:
    """A judge's call about two responses, and the log-odds of the one that it was shown first."""

    call: JudgeCall
    log_odds: float | None

    def log_odds_of(self, index: int) -> float | None:
        """The log-odds of a response, wherever it stood."""
        if self.log_odds is None:
            return None
        return self.log_odds if self.call.judgement.shown[0] == index else -self.log_odds
