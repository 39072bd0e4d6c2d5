"""`ListwiseJudge`: a language model sees all responses of a group and chooses the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from flip_reward.core.conversation import Group
from flip_reward.core.judgement import draw_orders
from flip_reward.core.prompts import JudgeKind, Template, render_list
from flip_reward.core.replies.parse import parse_list_choice
from flip_reward.core.score import Score
from flip_reward.engines.base import Engine, Request
from flip_reward.errors import OptionError
from flip_reward.rewards.judges.base import (
    GroupJudge,
    GroupJudgeOptions,
    JudgeCall,
    JudgeInput,
    call_judge,
    make_schema,
    score_share,
)
from flip_reward.rewards.options import Settings, read_options
from flip_reward.rewards.waiting import gather_all


@dataclass(frozen=True)
class ListwiseOptions(GroupJudgeOptions):
    """How `ListwiseJudge` asks.

    All orders are different, so there are no more than the factorial of the number of responses.
    """

    orders: Annotated[int, Field(ge=1, description="listwise: show the responses in this many orders.")] = 1


class ListwiseJudge(GroupJudge):
    """A judge that sees the conversation and all responses in a drawn order, and chooses the best one.

    The reward is the share of the orders, among those that gave a verdict, in which the response was chosen: with a
    single order 1 for the best and 0 for the others. Without any verdict no response is scored.

    Args:
        engine: The judging model; None renders prompts only.
        options: How it is asked.
        template: A prompt of your own, in place of the one that the options name.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> def choose_pears(request):
        ...     lines = request.messages[-1].content.splitlines()[-2:]
        ...     return f'{{"BEST_RESPONSE_INDEX": {[n for n, line in enumerate(lines) if "Pear" in line][0]}}}'
        >>> judge = ListwiseJudge(ScriptedEngine(choose_pears), ListwiseOptions(orders=2))
        >>> [scores] = judge.score_sync([Group.of("Name a fruit.", ["Pear.", "Bread."])])
        >>> [score.value for score in scores]
        [1.0, 0.0]
    """

    kind = JudgeKind.LISTWISE

    recorded_otherwise = ("orders", "order_seed")

    def __init__(
        self, engine: Engine | None, options: ListwiseOptions | None = None, *, template: Template | None = None
    ) -> None:
        self.options = read_options(options, ListwiseOptions)
        super().__init__(engine, self.options, template)
        if self.options.orders < 1:
            raise OptionError(f"responses are shown in at least 1 order, not in {self.options.orders}")

    @property
    def settings(self) -> Settings:
        """Everything but the group that a score depends on."""
        own = self.options
        return {**super().settings, "orders": own.orders, "order_seed": own.seed_of_orders}

    def render(self, group: Group) -> list[Request | None]:
        """Render the request of every order, without sending anything."""
        judged = JudgeInput.of(group, self.select_target(group), self.visible_answer)
        return [self._request(judged, order) for order in self._orders(group, judged)]

    async def _compare(self, group: Group, shown: JudgeInput) -> tuple[Mapping[int, Score], Sequence[JudgeCall]]:
        calls = await gather_all(self._choose(shown, order) for order in self._orders(group, shown))
        chosen = [call.judgement.chosen for call in calls if call.judgement.chosen is not None]
        failures = [call for call in calls if call.judgement.chosen is None]
        return {index: score_share(chosen.count(index), len(chosen), failures) for index in shown.answers}, calls

    def _orders(self, group: Group, shown: JudgeInput) -> list[tuple[int, ...]]:
        if len(shown.answers) < 2:
            return []
        return draw_orders(group, list(shown.answers), seed=self.options.seed_of_orders, count=self.options.orders)

    async def _choose(self, judged: JudgeInput, order: Sequence[int]) -> JudgeCall:
        return await call_judge(
            self.required_engine, self._request(judged, order), judged.show(order), parse_list_choice
        )

    def _request(self, judged: JudgeInput, order: Sequence[int]) -> Request:
        schema = make_schema("BEST_RESPONSE_INDEX", {"type": "integer", "enum": list(range(len(order)))})
        messages = self._write_prompt(judged, {"responses": render_list(judged.show(order).values())})
        return self.options.make_request(messages, schema)
