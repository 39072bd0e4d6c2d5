"""`PointwiseJudge`: a language model rates each response from 1 to 10."""

from __future__ import annotations

from dataclasses import dataclass

from flip_reward.core.prompts import JudgeKind, Template
from flip_reward.core.replies.parse import HIGHEST_RATING, LOWEST_RATING, ReplyPolicy, parse_rating
from flip_reward.core.score import Cost, Score
from flip_reward.engines.base import Completion, Engine, Request
from flip_reward.rewards.base import ask, fail_as
from flip_reward.rewards.judges.base import JudgeInput, JudgeOptions, ResponseJudge, make_schema
from flip_reward.rewards.options import ReplyPolicySetting, read_options

RATING_SCHEMA = make_schema("SCORE", {"type": "integer", "enum": list(range(LOWEST_RATING, HIGHEST_RATING + 1))})


@dataclass(frozen=True)
class PointwiseOptions(JudgeOptions):
    """How `PointwiseJudge` asks."""

    reply_policy: ReplyPolicySetting = ReplyPolicy.STRICT


class PointwiseJudge(ResponseJudge):
    """A judge that sees the conversation and one response, and rates it from 1 to 10. The reward is the rating.

    With `ReplyPolicy.AS_PUBLISHED` it is that of the paper's training code: a tenth of the rating, and 0 without one.

    Args:
        engine: The judging model; None renders prompts only.
        options: How it is asked.
        template: A prompt of your own, in place of the one that the options name.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> engine = ScriptedEngine(lambda request: '{"REASONING": "All three are fruits.", "SCORE": "8/10"}')
        >>> [[score]] = PointwiseJudge(engine).score_sync([Group.of("Name three fruits.", "Apples, pears, plums.")])
        >>> score.value, score.reasoning
        (8.0, 'All three are fruits.')
    """

    kind = JudgeKind.POINTWISE

    def __init__(
        self, engine: Engine | None, options: PointwiseOptions | None = None, *, template: Template | None = None
    ) -> None:
        self.options = read_options(options, PointwiseOptions)
        super().__init__(engine, self.options, template)

    async def _judge(self, judged: JudgeInput, answer: str) -> Score:
        policy = self.options.reply_policy

        def read(completion: Completion, cost: Cost) -> Score:
            rating = parse_rating(completion.text, completion.finish_reason, shown=[answer], policy=policy)
            return Score(
                rating.value,
                rating.status.outcome,
                reasoning=rating.reasoning,
                raw_reply=completion.text,
                cost=cost,
            )

        return fail_as(policy, await ask(self.required_engine.complete(self._request(judged, answer)), read))

    def _request(self, judged: JudgeInput, answer: str) -> Request:
        return self.options.make_request(self._write_prompt(judged, {"response": answer}), RATING_SCHEMA)
