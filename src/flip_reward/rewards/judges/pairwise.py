"""`PairwiseJudge`: a language model sees two responses at a time and chooses the better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

from flip_reward.core.conversation import Group
from flip_reward.core.judge_reply import parse_pair_choice
from flip_reward.core.judge_templates import JudgeKind, load_judge_template, render_text
from flip_reward.core.orders import draw_orders
from flip_reward.core.prompts import Template
from flip_reward.core.score import Score
from flip_reward.engines.base import Engine, Request
from flip_reward.rewards.base import Settings, gather_all
from flip_reward.rewards.judges.base import Case, GroupJudge, Judged, JudgeOptions, judge, make_schema, open_case
from flip_reward.rewards.judges.tournament import Match, Tournament, play_knockout, play_round_robin

PAIR_SCHEMA = make_schema("BETTER_RESPONSE", {"type": "string", "enum": ["A", "B"]})


@dataclass(frozen=True, slots=True)
class PairwiseOptions(JudgeOptions):
    """How `PairwiseJudge` asks.

    Attributes:
        both_orders: Show each pair in both orders, and take a verdict that changes with the order for a tie. Else
            each pair is shown once, in a drawn order.
        tournament: Which responses of a group of more than two meet.
        order_seed: Another seed draws other orders. Each group has orders of its own.
    """

    template: Template = field(default_factory=partial(load_judge_template, JudgeKind.PAIRWISE))
    both_orders: bool = True
    tournament: Tournament = Tournament.ROUND_ROBIN
    order_seed: int = 0


class PairwiseJudge(GroupJudge):
    """A judge that sees the conversation and two responses, and chooses the better one.

    The reward is the share of a response's matches that it won, ties counting half (round robin), or the share of
    the rounds that it survived (knockout). See `flip_reward.rewards.judges.tournament` for matches without a verdict.
    How often the order decided can be counted from the scores' replies:
    `flip_reward.core.judgement.count_order_flips`.

    Args:
        engine: The judging model.
        options: How it is asked.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> engine = ScriptedEngine(lambda request: '{"BETTER_RESPONSE": "A"}')  # whatever stands first
        >>> [scores] = PairwiseJudge(engine).score_sync([Group.of("Name a fruit.", ["Pear.", "Bread."])])
        >>> [score.value for score in scores], engine.requests
        ([0.5, 0.5], 2)
    """

    kind = JudgeKind.PAIRWISE

    def __init__(self, engine: Engine, options: PairwiseOptions | None = None) -> None:
        self.options = options or PairwiseOptions()
        super().__init__(engine, self.options)

    @property
    def settings(self) -> Settings:
        """Everything that a score depends on besides the group."""
        options = self.options
        return {
            **super().settings,
            "both_orders": options.both_orders,
            "tournament": options.tournament.value,
            "order_seed": options.order_seed,
        }

    def render(self, group: Group) -> list[Request | None]:
        """Render the requests that come first, without sending anything: all, or a knockout's first round."""
        self.instruction_of(group)
        case = open_case(group)
        entrants = self._entrants(group, case)
        if self.options.tournament is Tournament.KNOCKOUT:
            pairs = list(zip(entrants[::2], entrants[1::2], strict=False))
        else:
            pairs = list(combinations(entrants, 2))
        return [self._request(case, order) for pair in pairs for order in self._orders(group, pair)]

    async def _compare(self, group: Group, case: Case) -> tuple[Mapping[int, Score], Sequence[Judged]]:
        async def play(one: int, other: int) -> Match:
            orders = self._orders(group, (one, other))
            requests = await gather_all(self._choose(case, order) for order in orders)
            return Match(one, other, tuple(requests))

        knockout = self.options.tournament is Tournament.KNOCKOUT
        standings = await (play_knockout if knockout else play_round_robin)(self._entrants(group, case), play)
        return standings.scores, [asked for match in standings.matches for asked in match.requests]

    def _entrants(self, group: Group, case: Case) -> Sequence[int]:
        """The responses that are judged, for a knockout in a drawn order."""
        indices = list(case.answers)
        if self.options.tournament is Tournament.KNOCKOUT:
            [indices] = map(list, draw_orders(group, indices, seed=self.options.order_seed))
        return indices

    def _orders(self, group: Group, pair: tuple[int, int]) -> list[tuple[int, ...]]:
        """The orders in which a pair is shown. One order alone is drawn: a fixed one would favour a place."""
        options = self.options
        return draw_orders(group, pair, seed=options.order_seed, count=2 if options.both_orders else 1)

    async def _choose(self, case: Case, order: Sequence[int]) -> Judged:
        return await judge(self.engine, self._request(case, order), case.show(order), parse_pair_choice)

    def _request(self, case: Case, order: Sequence[int]) -> Request:
        first, second = map(render_text, case.show(order).values())
        return self._fill(case, {"response_a": first, "response_b": second}, PAIR_SCHEMA)
