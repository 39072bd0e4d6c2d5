import asyncio

import pytest

from flip_reward.server.problems import ApiError, Problem
from flip_reward.server.scorer import LONGEST_RETRY_AFTER_SECONDS, Admission


def test_what_fits_gets_in_and_what_leaves_makes_room() -> None:
    admission = Admission(8)
    admission.enter(5)
    with pytest.raises(ApiError) as caught:
        admission.enter(4)
    assert (caught.value.status, caught.value.problem) == (429, Problem.QUEUE_FULL)
    assert admission.pending == 5
    admission.enter(3)
    assert admission.full
    admission.leave(5)
    admission.enter(4)
    assert admission.pending == 7


def test_what_never_fits_is_not_told_to_come_again() -> None:
    with pytest.raises(ApiError) as caught:
        Admission(8).enter(9)
    assert caught.value.status == 413
    assert "retry-after" not in caught.value.headers


def test_retry_after_is_a_whole_number_of_seconds_within_bounds() -> None:
    admission = Admission(4)
    admission.enter(4)
    assert 1 <= int(admission.refusal().headers["retry-after"]) <= LONGEST_RETRY_AFTER_SECONDS


def test_nothing_to_score_takes_no_place() -> None:
    admission = Admission(1)
    admission.enter(0)
    admission.leave(0)
    assert admission.pending == 0


async def test_who_waits_for_room_is_let_in_by_turns_and_leaves_nothing_behind() -> None:
    admission = Admission(4)
    admission.enter(4)
    first, second, third = (asyncio.create_task(admission.wait_and_enter(count)) for count in (3, 2, 1))
    await asyncio.sleep(0)
    admission.leave(2)
    await asyncio.sleep(0)
    assert [task.done() for task in (first, second, third)] == [False] * 3
    first.cancel()
    await asyncio.sleep(0)
    admission.leave(1)
    second.cancel()  # in the same moment that it is let in
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert (second.cancelled(), third.cancelled()) == (True, False)
    assert admission.pending == 2
