"""Tournaments between numbers, where the higher number is the better response."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from flip_reward.core.judgement import Judgement
from flip_reward.core.score import Outcome, Score
from flip_reward.rewards.judges.base import JudgeCall
from flip_reward.rewards.judges.pairwise import Pairing, Standings, play_knockout, play_round_robin


def verdict(chosen: int | None, *shown: int, outcome: Outcome = Outcome.UNPARSEABLE_REPLY) -> JudgeCall:
    return JudgeCall(Judgement(shown, outcome if chosen is None else Outcome.SCORED, chosen))


class Pairs:
    """Plays matches: ties and failures where told, else the higher number wins in both orders."""

    def __init__(
        self, ties: Sequence[frozenset[int]] = (), failures: Mapping[frozenset[int], Outcome] | None = None
    ) -> None:
        self._ties, self._failures = ties, failures or {}
        self.played: list[tuple[int, int]] = []

    async def __call__(self, one: int, other: int) -> Pairing:
        self.played.append((one, other))
        pair = frozenset((one, other))
        if outcome := self._failures.get(pair):
            calls = verdict(None, one, other, outcome=outcome), verdict(other, other, one)
        elif pair in self._ties:
            calls = verdict(one, one, other), verdict(other, other, one)
        else:
            calls = verdict(max(pair), one, other), verdict(max(pair), other, one)
        return Pairing(one, other, calls)


def values(standings: Standings) -> dict[int, float | None]:
    return {index: score.value for index, score in standings.scores.items()}


def pair(one: int, other: int) -> frozenset[int]:
    return frozenset((one, other))


def test_round_robin_gives_the_share_of_matches_won() -> None:
    pairs = Pairs()
    standings = asyncio.run(play_round_robin([0, 1, 2, 3], pairs))
    assert values(standings) == {0: 0, 1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3), 3: 1}
    assert len(pairs.played) == len(standings.matches) == 6


def test_ties_count_half() -> None:
    standings = asyncio.run(play_round_robin([0, 1, 2], Pairs(ties=[pair(1, 2)])))
    assert values(standings) == {0: 0, 1: 0.75, 2: 0.75}


def test_a_match_without_a_verdict_does_not_count() -> None:
    failures = {pair(0, 1): Outcome.UNPARSEABLE_REPLY, pair(0, 2): Outcome.TRUNCATED_REPLY}
    scores = asyncio.run(play_round_robin([0, 1, 2], Pairs(failures=failures))).scores
    assert scores[0] == Score(None, Outcome.UNPARSEABLE_REPLY)
    assert scores[1] == Score(0, Outcome.SCORED, detail="left out: 1 unparseable_reply")
    assert scores[2] == Score(1, Outcome.SCORED, detail="left out: 1 truncated_reply")


def test_a_failure_of_the_engine_goes_first_so_that_it_is_tried_again() -> None:
    failures = {pair(0, 1): Outcome.UNPARSEABLE_REPLY, pair(0, 2): Outcome.ENGINE_FAILURE}
    scores = asyncio.run(play_round_robin([0, 1, 2], Pairs(failures=failures))).scores
    assert scores[0].outcome is Outcome.ENGINE_FAILURE


def test_one_order_alone_decides_nothing_where_both_were_asked() -> None:
    match = Pairing(0, 1, (verdict(0, 0, 1), verdict(None, 1, 0)))
    assert match.points(0) is None
    assert Pairing(0, 1, (verdict(0, 0, 1),)).points(0) == 1


def test_knockout_gives_the_share_of_rounds_survived() -> None:
    pairs = Pairs()
    standings = asyncio.run(play_knockout([5, 0, 7, 2, 1, 6, 3, 4], pairs))
    third = pytest.approx(1 / 3)
    assert values(standings) == {5: third, 0: 0, 7: 1, 2: 0, 1: 0, 6: pytest.approx(2 / 3), 3: 0, 4: third}
    assert pairs.played == [(5, 0), (7, 2), (1, 6), (3, 4), (5, 7), (6, 4), (7, 6)]


def test_an_odd_one_has_a_free_round_once() -> None:
    pairs = Pairs()
    standings = asyncio.run(play_knockout([0, 1, 2, 3, 4], pairs))
    assert pairs.played == [(0, 1), (2, 3), (4, 1), (3, 4)]
    assert values(standings) == {
        0: 0, 1: pytest.approx(1 / 3), 2: 0, 3: pytest.approx(2 / 3), 4: 1,
    }  # fmt: skip


def test_after_a_tie_the_earlier_one_goes_on() -> None:
    standings = asyncio.run(play_knockout([0, 3, 1, 2], Pairs(ties=[pair(0, 3), pair(0, 2)])))
    assert values(standings) == {0: 0.5, 3: 0.25, 1: 0, 2: 0.75}


def test_after_a_match_without_a_verdict_the_earlier_one_goes_on_and_the_other_is_unscored() -> None:
    standings = asyncio.run(play_knockout([0, 3, 1, 2], Pairs(failures={pair(0, 3): Outcome.EMPTY_REPLY})))
    assert standings.scores[3] == Score(None, Outcome.EMPTY_REPLY)
    assert standings.scores[0] == Score(0, Outcome.SCORED, detail="left out: 1 empty_reply")
    assert (standings.scores[1].value, standings.scores[2].value) == (0, 1)


def test_a_free_round_alone_earns_nothing() -> None:
    standings = asyncio.run(play_knockout([0, 1, 2], Pairs(failures={pair(2, 1): Outcome.EMPTY_REPLY})))
    assert values(standings) == {0: 0, 1: None, 2: None}
