import pytest

from flip_reward.core.score import Cost, Outcome, Score, Usage
from flip_reward.rewards.unscored import NONE, RAISE, UnscoredPolicy
from flip_reward.server.contracts.numbers import to_numbers
from flip_reward.server.problems import ApiError, Problem, RowError
from flip_reward.server.scorer import Result

GOOD = Score(0.5, Outcome.SCORED, cost=Cost(Usage(10, 3)))
EMPTY = Score(None, Outcome.EMPTY_RESPONSE)
LOST = Score(None, Outcome.ENGINE_FAILURE, detail="refuses connections")
BAD_ROW = RowError(Problem.BAD_ROW, "no user message")


def test_an_error_says_whether_asking_again_may_help() -> None:
    with pytest.raises(ApiError, match=r"2 of the .* row 0: empty_response; row 1: no user message") as final:
        to_numbers([(GOOD, EMPTY), BAD_ROW], [2, 1], RAISE)
    assert (final.value.status, final.value.problem) == (422, Problem.UNSCORED)
    with pytest.raises(ApiError, match="refuses connections") as passing:
        to_numbers([(GOOD, EMPTY), (LOST,)], [2, 1], RAISE)
    assert passing.value.status == 503
    assert "retry-after" in passing.value.headers


def test_null_and_value_stand_in_the_places_of_unscored_responses() -> None:
    results: list[Result] = [(GOOD, EMPTY), BAD_ROW, (LOST,)]
    numbers = to_numbers(results, [2, 2, 1], NONE)
    assert numbers.values == (0.5, None, None, None, None)
    assert numbers.scored == (True, False, False, False, False)
    assert (numbers.prompt_tokens, numbers.completion_tokens) == (10, 3)
    chosen = to_numbers(results, [2, 2, 1], UnscoredPolicy.parse(-1.0))
    assert chosen.values == (0.5, -1.0, -1.0, -1.0, -1.0)


def test_scored_responses_are_left_alone_whatever_the_policy() -> None:
    for policy in (RAISE, NONE, UnscoredPolicy.parse(-1.0)):
        assert to_numbers([(GOOD,), (GOOD, GOOD)], [1, 2], policy).values == (0.5, 0.5, 0.5)
