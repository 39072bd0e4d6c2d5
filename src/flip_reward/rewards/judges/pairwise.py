"""`PairwiseJudge`: a language model sees two responses at a time and chooses the better one.

With more than two responses the pairs are the matches of a tournament, and a response earns by the matches it wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Annotated

from pydantic import Field

from flip_reward.core.conversation import Group
from flip_reward.core.judgement import draw_orders
from flip_reward.core.prompts import JudgeKind, Template, render_pair
from flip_reward.core.replies.parse import parse_pair_choice
from flip_reward.core.score import Score
from flip_reward.engines.base import Engine, Request
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


class Tournament(StrEnum):
    """Which responses of a group meet."""

    ROUND_ROBIN = "round-robin"
    """Every pair meets: N(N-1)/2 matches."""
    KNOCKOUT = "knockout"
    """The loser of a match is out: N-1 matches."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two responses of a group by their indices, and a judge's calls about them, one for each order."""

    one: int
    other: int
    calls: tuple[JudgeCall, ...]

    @property
    def failures(self) -> list[JudgeCall]:
        """The calls that gave no verdict."""
        return [call for call in self.calls if call.judgement.chosen is None]

    def points(self, index: int) -> float | None:
        """The share of the verdicts for a response: 1, 0, or 1/2 when they change with the order.

        None unless every order gave a verdict: a single order would count the place as well as the response.
        """
        chosen = [call.judgement.chosen for call in self.calls]
        return None if None in chosen else chosen.count(index) / len(chosen)


Play = Callable[[int, int], Coroutine[object, object, Pairing]]
"""Puts two responses to the judge."""


@dataclass(frozen=True, slots=True)
class Standings:
    """How a tournament ended: what each response earned, without the cost, and all matches that were played."""

    scores: Mapping[int, Score]
    matches: Sequence[Pairing]


async def play_round_robin(entrants: Sequence[int], play: Play) -> Standings:
    """Let every pair meet. A response earns the share of its matches that it won, ties counting half, 0 to 1.

    A match without a verdict does not count. A response with no other matches is unscored.
    """
    matches = await gather_all(play(one, other) for one, other in combinations(entrants, 2))
    scores = {}
    for index in entrants:
        own = [match for match in matches if index in (match.one, match.other)]
        points = [earned for match in own if (earned := match.points(index)) is not None]
        scores[index] = score_share(sum(points), len(points), _failures(own))
    return Standings(scores, matches)


async def play_knockout(entrants: Sequence[int], play: Play) -> Standings:
    """Let neighbours meet, then the winners, until one is left.

    A response earns the share of the rounds that it survived, 0 to 1; a tie counts half a round for both. Where the
    number is odd the last has a free round, which counts as survived, and goes first into the next one.

    After a tie or a match without a verdict the earlier entrant goes on. A match without a verdict does not count for
    it, and leaves the other one unscored, since nobody knows how far it would have gone.
    """
    rounds = (len(entrants) - 1).bit_length()
    survived: defaultdict[int, float] = defaultdict(float)
    counted = dict.fromkeys(entrants, rounds)
    stranded: set[int] = set()
    matches: list[Pairing] = []
    left = list(entrants)
    while len(left) > 1:
        free = left[-1:] if len(left) % 2 else []
        played = await gather_all(play(*pair) for pair in zip(left[::2], left[1::2], strict=False))
        matches += played
        left = free
        for index in free:
            survived[index] += 1
        for match in played:
            points = match.points(match.one)
            if points is None:
                counted[match.one] -= 1
                stranded.add(match.other)
            else:
                survived[match.one] += points
                survived[match.other] += 1 - points
            left.append(match.other if points == 0 else match.one)
    scores = {}
    for index in entrants:
        own = [match for match in matches if index in (match.one, match.other)]
        judged = index not in stranded and any(match.points(index) is not None for match in own)
        scores[index] = score_share(survived[index], counted[index] if judged else 0, _failures(own))
    return Standings(scores, matches)


def _failures(matches: Sequence[Pairing]) -> list[JudgeCall]:
    return [failed for match in matches for failed in match.failures]


PAIR_SCHEMA = make_schema("BETTER_RESPONSE", {"type": "string", "enum": ["A", "B"]})


@dataclass(frozen=True)
class PairwiseOptions(GroupJudgeOptions):
    """How `PairwiseJudge` asks.

    By default each pair is shown in both orders, and a verdict that changes with the order is a tie.
    """

    one_order: Annotated[
        bool, Field(description="pairwise: show each pair once, in a random order, not in both.")
    ] = False
    tournament: Annotated[Tournament, Field(description="pairwise: which of more than two responses meet.")] = (
        Tournament.ROUND_ROBIN
    )


class PairwiseJudge(GroupJudge):
    """A judge that sees the conversation and two responses, and chooses the better one.

    The reward is the share of a response's matches that it won, ties counting half (round robin), or the share of
    the rounds that it survived (knockout). See `flip_reward.rewards.judges.pairwise` for matches without a verdict.
    How often the order decided can be counted from the scores' replies:
    `flip_reward.core.judgement.measure_position_bias`.

    Args:
        engine: The judging model; None renders prompts only.
        options: How it is asked.
        template: A prompt of your own, in place of the one that the options name.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> engine = ScriptedEngine(lambda request: '{"BETTER_RESPONSE": "A"}')  # whatever stands first
        >>> [scores] = PairwiseJudge(engine).score_sync([Group.of("Name a fruit.", ["Pear.", "Bread."])])
        >>> [score.value for score in scores], engine.requests
        ([0.5, 0.5], 2)
    """

    kind = JudgeKind.PAIRWISE

    recorded_otherwise = ("one_order", "tournament", "order_seed")

    def __init__(
        self, engine: Engine | None, options: PairwiseOptions | None = None, *, template: Template | None = None
    ) -> None:
        self.options = read_options(options, PairwiseOptions)
        super().__init__(engine, self.options, template)

    @property
    def settings(self) -> Settings:
        """Everything but the group that a score depends on."""
        return {
            **super().settings,
            "both_orders": not self.options.one_order,
            "tournament": self.options.tournament.value,
            "order_seed": self.options.seed_of_orders,
        }

    def render(self, group: Group) -> list[Request | None]:
        """Render the requests that come first, without sending anything: all, or a knockout's first round."""
        judged = JudgeInput.of(group, self.select_target(group), self.visible_answer)
        entrants = self._entrants(group, judged)
        if self.options.tournament is Tournament.KNOCKOUT:
            pairs = list(zip(entrants[::2], entrants[1::2], strict=False))
        else:
            pairs = list(combinations(entrants, 2))
        return [self._request(judged, order) for pair in pairs for order in self._orders(group, pair)]

    async def _compare(self, group: Group, shown: JudgeInput) -> tuple[Mapping[int, Score], Sequence[JudgeCall]]:
        async def play(one: int, other: int) -> Pairing:
            calls = await gather_all(self._choose(shown, order) for order in self._orders(group, (one, other)))
            return Pairing(one, other, tuple(calls))

        knockout = self.options.tournament is Tournament.KNOCKOUT
        standings = await (play_knockout if knockout else play_round_robin)(self._entrants(group, shown), play)
        return standings.scores, [call for match in standings.matches for call in match.calls]

    def _entrants(self, group: Group, shown: JudgeInput) -> Sequence[int]:
        """The responses that are judged, for a knockout in a drawn order."""
        indices = list(shown.answers)
        if self.options.tournament is Tournament.KNOCKOUT:
            [indices] = map(list, draw_orders(group, indices, seed=self.options.seed_of_orders))
        return indices

    def _orders(self, group: Group, pair: tuple[int, int]) -> list[tuple[int, ...]]:
        """The orders in which a pair is shown. One order alone is drawn: a fixed one would favour a place."""
        options = self.options
        return draw_orders(group, pair, seed=options.seed_of_orders, count=1 if options.one_order else 2)

    async def _choose(self, judged: JudgeInput, order: Sequence[int]) -> JudgeCall:
        return await call_judge(
            self.required_engine, self._request(judged, order), judged.show(order), parse_pair_choice
        )

    def _request(self, judged: JudgeInput, order: Sequence[int]) -> Request:
        messages = self._write_prompt(judged, render_pair(*judged.show(order).values()))
        return self.options.make_request(messages, PAIR_SCHEMA)
