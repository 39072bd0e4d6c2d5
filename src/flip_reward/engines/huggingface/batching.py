"""`BatchQueue`: gathers rows of tokens from many tasks, and computes those of similar length in batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from flip_reward.engines.stopping import StopSignal, current_stop
from flip_reward.errors import (
    EngineError,
    EngineServerError,
    EngineUnavailableError,
    FlipRewardError,
    RequestDroppedError,
)

GATHERING_SECONDS = 0.002
"""How long a batch waits for the next row to arrive; a hundredth of what the last batch took, where that is more."""

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cublas_status_alloc_failed")


class BatchRow(Protocol):
    """What is computed in batches."""

    @property
    def length(self) -> int:
        """The tokens that it takes in the end."""
        ...

    @property
    def kind(self) -> object:
        """Rows of equal kinds can be computed together."""
        ...


Row = TypeVar("Row", bound=BatchRow)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Pending(Generic[Row, Result]):
    row: Row
    stop: StopSignal | None
    result: Future[Result] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: EngineError
    out_of_memory: bool


class BatchQueue(Generic[Row, Result]):
    """Computes rows in batches of similar length, the longest of them first.

    A batch holds the row that has waited longest and those of its kind whose length is closest, up to a budget of
    tokens with padding. When memory runs out, the batch is halved, and so is the budget from then on. When a batch
    fails otherwise, its rows are computed one by one, so that no row fails for another. Rows of work that is asked to
    stop are dropped where they are in no batch yet.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Row]], Sequence[Result]],
        *,
        budget_tokens: int,
        gathering_seconds: float = GATHERING_SECONDS,
    ) -> None:
        self.budget_tokens = budget_tokens
        self._compute = compute
        self._gathering_seconds = gathering_seconds
        self._last_batch_seconds = 0.0
        self._arrived: deque[_Pending[Row, Result]] = deque()
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batches")

    async def compute(self, rows: Sequence[Row]) -> list[Result]:
        """Compute rows together with whatever else waits, and return their results in order."""
        if self._closed:
            raise EngineUnavailableError("the engine was closed")
        waiting: list[_Pending[Row, Result]] = [_Pending(row, current_stop.get()) for row in rows]
        self._arrived.extend(waiting)
        self._executor.submit(self._work)
        return await asyncio.gather(*(asyncio.wrap_future(one.result) for one in waiting))

    def close(self) -> None:
        """Finish the batch that is being computed; all other rows fail."""
        self._closed = True
        self._executor.shutdown()
        self._fail(self._take_arrived(), EngineUnavailableError("the engine was closed"))

    def _work(self) -> None:
        """Compute what waits and what arrives meanwhile, so most calls find nothing left to do."""
        pool: list[_Pending[Row, Result]] = []
        try:
            while not self._closed:
                self._gather(pool)
                stopped = [one for one in pool if one.stop is not None and one.stop.requested]
                self._fail(stopped, RequestDroppedError("not computed: the run was stopped"))
                pool = [one for one in pool if not one.result.done()]
                if not pool:
                    return
                alike = [one for one in pool if one.row.kind == pool[0].row.kind]
                lengths = [one.row.length for one in alike]
                batch = [alike[number] for number in choose_batch(lengths, self.budget_tokens)]
                taken = set(map(id, batch))
                pool = [one for one in pool if id(one) not in taken]
                started = time.perf_counter()
                self._finish([one for one in batch if one.result.set_running_or_notify_cancel()])
                self._last_batch_seconds = time.perf_counter() - started
        finally:
            self._fail(pool, EngineUnavailableError("the engine was closed"))

    def _gather(self, pool: list[_Pending[Row, Result]]) -> None:
        """Take what has arrived, and while rows go on arriving, up to ten times as long or until a batch is full.

        Whoever got the results of a batch asks again, one after the other: without a wait the first of them would be
        a batch of their own.
        """
        pause = max(self._gathering_seconds, self._last_batch_seconds / 100)
        for pauses in range(10):
            arrived = self._take_arrived()
            pool += arrived
            if (pauses and not arrived) or self._closed or sum(one.row.length for one in pool) >= self.budget_tokens:
                return
            time.sleep(pause)

    def _take_arrived(self) -> list[_Pending[Row, Result]]:
        taken = []
        while self._arrived:
            taken.append(self._arrived.popleft())
        return taken

    def _finish(self, batch: list[_Pending[Row, Result]]) -> None:
        """Give every row of a batch its result, in smaller batches where that is needed."""
        todo = [batch]
        while todo:
            rows = todo.pop()
            failure = self._try(rows) if rows else None
            if failure is None:
                continue
            if len(rows) == 1:
                rows[0].result.set_exception(failure.error)
            elif failure.out_of_memory:
                longest = max(one.row.length for one in rows)
                self.budget_tokens = min(self.budget_tokens, longest * len(rows) // 2)
                half = len(rows) // 2
                todo += [rows[half:], rows[:half]]
            else:
                todo += [[one] for one in reversed(rows)]  # one row's failure is not its neighbours'

    def _try(self, batch: list[_Pending[Row, Result]]) -> _Failure | None:
        """Compute a batch. A failure comes back without its traceback, which would keep the batch in memory."""
        try:
            results = self._compute([one.row for one in batch])
        except EngineError as error:
            return _Failure(error.with_traceback(None), out_of_memory=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            no_memory = is_out_of_memory(error)
            message = "there is not enough memory for one row" if no_memory else f"the model failed: {error}"
            return _Failure(EngineServerError(message), out_of_memory=no_memory)
        except BaseException:
            self._fail(batch, EngineUnavailableError("the engine was interrupted"))
            raise
        if len(results) != len(batch):
            failure = EngineServerError(f"the model gave {len(results)} results for {len(batch)} rows")
            return _Failure(failure, out_of_memory=False)
        for one, result in zip(batch, results, strict=True):
            one.result.set_result(result)
        return None

    @staticmethod
    def _fail(waiting: list[_Pending[Row, Result]], error: FlipRewardError) -> None:
        for one in waiting:
            if one.result.running() or one.result.set_running_or_notify_cancel():
                one.result.set_exception(error)


def choose_batch(lengths: Sequence[int], budget_tokens: int) -> list[int]:
    """Choose the rows to compute together with the first that waits: positions, the longest row first.

    A batch is as wide as its longest row, so rows whose length is closest to the first one's waste the least. The
    budget counts padding; one row alone may exceed it.

    Example:
        >>> choose_batch([10, 90, 11, 12], budget_tokens=36)
        [3, 2, 0]
    """
    nearest_first = sorted(range(len(lengths)), key=lambda row: (abs(lengths[row] - lengths[0]), row))
    widest = 0
    chosen: list[int] = []
    for row in nearest_first:
        widest = max(widest, lengths[row])
        if chosen and widest * (len(chosen) + 1) > budget_tokens:
            break
        chosen.append(row)
    return sorted(chosen, key=lambda row: -lengths[row])


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch says that memory ran out; on a CPU only its message does.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))
        True
    """
    said = str(error).lower()
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or any(words in said for words in _NO_MEMORY)
