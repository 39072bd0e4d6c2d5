"""How the responses of a group meet in pairs, and what they earn by it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from flip_reward.core.score import Outcome, Score
from flip_reward.rewards.base import gather_all
from flip_reward.rewards.judges.base import Judged, describe_failures, unscored


class Tournament(StrEnum):
    """Which responses of a group meet."""

    ROUND_ROBIN = "round-robin"
    """Each meets each: N(N-1)/2 matches."""
    KNOCKOUT = "knockout"
    """Who loses is out: N-1 matches."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two responses, judged in one order or in both.

    Attributes:
        one: The index of one response.
        other: The index of the other.
        requests: A request for each order.
    """

    one: int
    other: int
    requests: tuple[Judged, ...]

    @property
    def failures(self) -> list[Judged]:
        """The requests that gave no verdict."""
        return [asked for asked in self.requests if asked.judgement.chosen is None]

    def points(self, index: int) -> float | None:
        """The share of the verdicts for a response: 1, 0, or 1/2 when they change with the order.

        None unless every order gave a verdict: a single order would count the place as well as the response.
        """
        chosen = [asked.judgement.chosen for asked in self.requests]
        return None if None in chosen else chosen.count(index) / len(chosen)


Play = Callable[[int, int], Coroutine[object, object, Match]]
"""Lets two responses meet."""


@dataclass(frozen=True, slots=True)
class Standings:
    """How a tournament ended.

    Attributes:
        scores: What each response earned, without what its requests took.
        matches: All that were played.
    """

    scores: Mapping[int, Score]
    matches: Sequence[Match]


async def play_round_robin(entrants: Sequence[int], play: Play) -> Standings:
    """Let each meet each. A response earns the share of its matches that it won, ties counting half, 0 to 1.

    A match without a verdict does not count. A response with no other matches is unscored.
    """
    matches = await gather_all(play(one, other) for one, other in combinations(entrants, 2))
    scores = {}
    for index in entrants:
        own = [match for match in matches if index in (match.one, match.other)]
        points = [earned for match in own if (earned := match.points(index)) is not None]
        scores[index] = _score(sum(points), len(points), _failures(own))
    return Standings(scores, matches)


async def play_knockout(entrants: Sequence[int], play: Play) -> Standings:
    """Let neighbours meet and the winners meet again, until one is left.

    A response earns the share of the rounds that it survived, 0 to 1; a tie counts half a round for both. Where the
    number is odd the last has a free round, which counts as survived, and goes first into the next one.

    After a tie or a match without a verdict the earlier entrant goes on. A match without a verdict does not count for
    it, and leaves the other one unscored, since nobody knows how far it would have gone.

    Args:
        entrants: The responses in the order of the draw.
        play: Lets two of them meet.
    """
    rounds = (len(entrants) - 1).bit_length()
    survived: defaultdict[int, float] = defaultdict(float)
    counted = dict.fromkeys(entrants, rounds)
    stranded: set[int] = set()
    matches: list[Match] = []
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
        scores[index] = _score(survived[index], counted[index] if judged else 0, _failures(own))
    return Standings(scores, matches)


def _failures(matches: Sequence[Match]) -> list[Judged]:
    return [failed for match in matches for failed in match.failures]


def _score(points: float, out_of: int, failures: Sequence[Judged]) -> Score:
    if not out_of:
        return unscored(failures)
    return Score(points / out_of, Outcome.SCORED, detail=describe_failures(failures))
