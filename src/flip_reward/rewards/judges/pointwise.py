"""`PointwiseJudge`: a language model rates each response from 1 to 10."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from flip_reward.core.conversation import Group
from flip_reward.core.prompts import JudgeKind, Template, load_judge_template
from flip_reward.core.replies import HIGHEST_RATING, LOWEST_RATING, parse_rating
from flip_reward.core.score import Score
from flip_reward.engines.base import Engine, Request
from flip_reward.rewards.base import ask, gather_all
from flip_reward.rewards.judges.base import Case, Judge, JudgeOptions, make_schema, open_case

RATING_SCHEMA = make_schema("SCORE", {"type": "integer", "enum": list(range(LOWEST_RATING, HIGHEST_RATING + 1))})


@dataclass(frozen=True, slots=True)
class PointwiseOptions(JudgeOptions):
    """How `PointwiseJudge` asks."""

    template: Template = field(default_factory=partial(load_judge_template, JudgeKind.POINTWISE))


class PointwiseJudge(Judge):
    """A judge that sees the conversation and one response, and rates it from 1 to 10. The reward is the rating.

    Args:
        engine: The judging model.
        options: How it is asked.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> engine = ScriptedEngine(lambda request: '{"REASONING": "All three are fruits.", "SCORE": "8/10"}')
        >>> [[score]] = PointwiseJudge(engine).score_sync([Group.of("Name three fruits.", "Apples, pears, plums.")])
        >>> score.value, score.reasoning
        (8.0, 'All three are fruits.')
    """

    kind = JudgeKind.POINTWISE

    def __init__(self, engine: Engine, options: PointwiseOptions | None = None) -> None:
        super().__init__(engine, options or PointwiseOptions())

    def render(self, group: Group) -> list[Request | None]:
        """Render the request of every response, without sending anything; None for one without an answer."""
        case = open_case(group)
        return [
            self._request(case, case.answers[index]) if index in case.answers else None
            for index in range(len(group.responses))
        ]

    async def score_group(self, group: Group) -> tuple[Score, ...]:
        """Rate every response of a group, each on its own."""
        case = open_case(group)
        return tuple(await gather_all(self._rate(index, case) for index in range(len(group.responses))))

    async def _rate(self, index: int, case: Case) -> Score:
        if index not in case.answers:
            return Score(None, case.outcomes[index])
        reply = await ask(self.engine, self._request(case, case.answers[index]))
        if reply.answer is None:
            return reply.unscored()
        completion = reply.answer
        rating = parse_rating(completion.text, completion.finish_reason, shown=[case.answers[index]])
        return Score(
            value=rating.value,
            outcome=rating.status.outcome,
            reasoning=rating.reasoning,
            raw_reply=completion.text,
            usage=completion.usage,
            attempts=completion.attempts,
            latency_seconds=reply.latency_seconds,
            cached=completion.cached,
        )

    def _request(self, case: Case, answer: str) -> Request:
        return self._fill(case, {"response": answer}, RATING_SCHEMA)
