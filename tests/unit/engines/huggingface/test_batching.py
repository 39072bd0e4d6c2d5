from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.engines.huggingface.batching import BatchQueue, choose_batch
from flip_reward.engines.stopping import StopSignal, current_stop
from flip_reward.errors import EngineServerError, EngineUnavailableError, RequestDroppedError


@dataclass(frozen=True)
class Row:
    length: int
    kind: str = "score"


class Recorder:
    """Computes twice the length of each row, and remembers the batches."""

    def __init__(self, memory_tokens: int = 10**9) -> None:
        self.batches: list[list[Row]] = []
        self.memory_tokens = memory_tokens

    def __call__(self, rows: Sequence[Row]) -> list[int]:
        if max(row.length for row in rows) * len(rows) > self.memory_tokens:
            raise MemoryError
        self.batches.append(list(rows))
        return [2 * row.length for row in rows]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=50), st.integers(1, 2000))
def test_a_batch_keeps_the_budget_and_holds_the_first_row(lengths: list[int], budget: int) -> None:
    chosen = choose_batch(lengths, budget)
    assert 0 in chosen
    assert len(set(chosen)) == len(chosen)
    widths = [lengths[row] for row in chosen]
    assert widths == sorted(widths, reverse=True)
    assert len(chosen) == 1 or max(widths) * len(chosen) <= budget


async def test_rows_of_one_kind_and_like_length_go_together() -> None:
    recorder = Recorder()
    queue = BatchQueue(recorder, budget_tokens=30)
    rows = [Row(10), Row(11, "draw"), Row(100), Row(9), Row(12, "draw"), Row(10)]
    assert await queue.compute(rows) == [2 * row.length for row in rows]
    assert [Row(10), Row(10), Row(9)] in recorder.batches
    assert [Row(12, "draw"), Row(11, "draw")] in recorder.batches
    assert [Row(100)] in recorder.batches


async def test_rows_that_are_in_no_batch_yet_are_dropped_when_their_work_is_to_stop() -> None:
    stop, recorder = StopSignal(), Recorder()

    def compute(rows: Sequence[Row]) -> list[int]:
        stop.requested = True
        return recorder(rows)

    queue = BatchQueue(compute, budget_tokens=20)
    current_stop.set(stop)
    results = await asyncio.gather(*(queue.compute([Row(10)]) for _ in range(6)), return_exceptions=True)
    [batch] = recorder.batches
    assert [result for result in results if not isinstance(result, RequestDroppedError)] == [[20]] * len(batch)
    current_stop.set(None)
    assert await queue.compute([Row(7)]) == [14]


async def test_many_tasks_share_batches_and_each_gets_its_own_result() -> None:
    recorder = Recorder()
    queue = BatchQueue(recorder, budget_tokens=10_000)
    results = await asyncio.gather(*(queue.compute([Row(length)]) for length in range(1, 65)))
    assert [result for [result] in results] == [2 * length for length in range(1, 65)]
    assert len(recorder.batches) < 8


async def test_without_memory_the_batch_is_halved_and_stays_so() -> None:
    recorder = Recorder(memory_tokens=40)
    queue = BatchQueue(recorder, budget_tokens=160)
    assert await queue.compute([Row(10)] * 16) == [20] * 16
    assert [len(batch) for batch in recorder.batches] == [4, 4, 4, 4]
    assert queue.budget_tokens == 40
    await queue.compute([Row(10)] * 8)
    assert [len(batch) for batch in recorder.batches[4:]] == [4, 4]


async def test_a_row_that_does_not_fit_alone_fails_alone() -> None:
    queue = BatchQueue(Recorder(memory_tokens=40), budget_tokens=1000)
    results = await asyncio.gather(queue.compute([Row(50)]), queue.compute([Row(8)]), return_exceptions=True)
    assert isinstance(results[0], EngineServerError)
    assert results[0].retryable
    assert results[1] == [16]


async def test_a_row_that_fails_does_not_fail_its_neighbours() -> None:
    def compute(rows: Sequence[Row]) -> list[int]:
        if any(row.length == 3 for row in rows):
            raise ArithmeticError("three")
        return [row.length for row in rows]

    queue: BatchQueue[Row, int] = BatchQueue(compute, budget_tokens=100)
    results = await asyncio.gather(*(queue.compute([Row(n)]) for n in range(1, 6)), return_exceptions=True)
    assert [result for result in results if isinstance(result, list)] == [[1], [2], [4], [5]]
    assert isinstance(results[2], EngineServerError)
    assert "three" in str(results[2])


async def test_a_failed_batch_is_not_kept_in_memory_while_it_is_halved() -> None:
    class Activations:
        """What a batch computes with."""

    alive: list[weakref.ref[Activations]] = []
    seen: list[int] = []

    def compute(rows: Sequence[Row]) -> list[int]:
        seen.append(sum(one() is not None for one in alive))
        activations = Activations()
        alive.append(weakref.ref(activations))
        if len(rows) > 1:
            raise MemoryError
        return [0] * len(rows)

    await BatchQueue(compute, budget_tokens=100).compute([Row(1)] * 4)
    assert seen == [0] * 7


async def test_too_few_results_are_a_failure_and_no_hang() -> None:
    queue: BatchQueue[Row, int] = BatchQueue(lambda rows: [0] * (len(rows) - 1), budget_tokens=100)
    with pytest.raises(EngineServerError, match="0 results for 1 rows"):
        await asyncio.wait_for(queue.compute([Row(1), Row(2)]), 10)


async def test_whoever_waits_when_the_queue_is_closed_is_told() -> None:
    started, go = threading.Event(), threading.Event()

    def compute(rows: Sequence[Row]) -> list[int]:
        started.set()
        go.wait(10)
        return [7] * len(rows)

    queue = BatchQueue(compute, budget_tokens=1)
    first = asyncio.create_task(queue.compute([Row(1)]))
    await asyncio.to_thread(started.wait, 10)
    second = asyncio.create_task(queue.compute([Row(2)]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(queue.close))
    await asyncio.sleep(0.05)
    go.set()
    await closing
    assert await first == [7]
    with pytest.raises(EngineUnavailableError, match="closed"):
        await asyncio.wait_for(second, 10)
    with pytest.raises(EngineUnavailableError, match="closed"):
        await queue.compute([Row(3)])


async def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    started, go = threading.Event(), threading.Event()
    seen: list[int] = []

    def compute(rows: Sequence[Row]) -> list[int]:
        seen.extend(row.length for row in rows)
        started.set()
        go.wait(10)
        return [0] * len(rows)

    queue = BatchQueue(compute, budget_tokens=1)
    first = asyncio.create_task(queue.compute([Row(1)]))
    await asyncio.to_thread(started.wait, 10)
    second = asyncio.create_task(queue.compute([Row(2)]))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    third = asyncio.create_task(queue.compute([Row(3)]))
    await asyncio.sleep(0)
    go.set()
    assert (await first, await third) == ([0], [0])
    assert seen == [1, 3]
