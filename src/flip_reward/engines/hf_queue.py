"""`BatchQueue`: gathers rows from many tasks and computes those of like length together, on one thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from flip_reward.engines.hf_batches import choose_batch
from flip_reward.errors import ContextTooLongError, EngineServerError

GATHERING_SECONDS = 0.002
"""How long the first row waits for others to be computed with it."""


class Row(Protocol):
    """What is computed in batches."""

    @property
    def length(self) -> int:
        """The tokens that it takes in the end."""
        ...

    @property
    def kind(self) -> object:
        """Rows of equal kinds can be computed together."""
        ...


R = TypeVar("R", bound=Row)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[R, Result]):
    row: R
    result: Future[Result] = field(default_factory=Future)


class BatchQueue(Generic[R, Result]):
    """Computes rows in batches of like length, the longest of them first.

    A batch holds the row that has waited longest and those of its kind whose length is closest, up to a budget of
    tokens with padding. When memory runs out, the batch is halved, and so is the budget from then on.

    Args:
        compute: Computes rows of one kind; called on a thread of the queue's own, one batch at a time.
        budget_tokens: The most tokens of a batch; a row alone may have more.

    Example:
        >>> @dataclass(frozen=True)
        ... class Word:
        ...     text: str
        ...     kind: str = "word"
        ...
        ...     @property
        ...     def length(self) -> int:
        ...         return len(self.text)
        >>> queue = BatchQueue(lambda words: [word.text.upper() for word in words], budget_tokens=8)
        >>> asyncio.run(queue.compute([Word("pear"), Word("apple"), Word("fig")]))
        ['PEAR', 'APPLE', 'FIG']
    """

    def __init__(self, compute: Callable[[Sequence[R]], Sequence[Result]], *, budget_tokens: int) -> None:
        self.budget_tokens = budget_tokens
        self._compute = compute
        self._arrived: deque[_Waiting[R, Result]] = deque()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batches")

    async def compute(self, rows: Sequence[R]) -> list[Result]:
        """Compute rows, in order; with whatever else waits.

        Raises:
            ContextTooLongError: A row alone does not fit the memory.
            EngineServerError: A batch failed.
        """
        waiting: list[_Waiting[R, Result]] = [_Waiting(row) for row in rows]
        self._arrived.extend(waiting)
        self._executor.submit(self._work)
        return await asyncio.gather(*(asyncio.wrap_future(one.result) for one in waiting))

    def close(self) -> None:
        """Finish what is being computed, and take nothing more."""
        self._executor.shutdown(cancel_futures=True)

    def _work(self) -> None:
        """Compute what waits. Whoever comes meanwhile is taken along, so most calls find nothing left to do."""
        if self._arrived:
            time.sleep(GATHERING_SECONDS)
        pool: list[_Waiting[R, Result]] = []
        while True:
            while self._arrived:
                pool.append(self._arrived.popleft())
            pool = [one for one in pool if not one.result.cancelled()]
            if not pool:
                return
            alike = [one for one in pool if one.row.kind == pool[0].row.kind]
            batch = [alike[number] for number in choose_batch([one.row.length for one in alike], self.budget_tokens)]
            taken = set(map(id, batch))
            pool = [one for one in pool if id(one) not in taken]
            self._settle([one for one in batch if one.result.set_running_or_notify_cancel()])

    def _settle(self, batch: list[_Waiting[R, Result]]) -> None:
        if not batch:
            return
        rows = [one.row for one in batch]
        try:
            results = self._compute(rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            self._recover(batch, error)
        else:
            for one, result in zip(batch, results, strict=True):
                one.result.set_result(result)

    def _recover(self, batch: list[_Waiting[R, Result]], error: Exception) -> None:
        longest = max(one.row.length for one in batch)
        if is_out_of_memory(error) and len(batch) > 1:
            self.budget_tokens = min(self.budget_tokens, longest * len(batch) // 2)
            half = len(batch) // 2
            self._settle(batch[:half])
            self._settle(batch[half:])
            return
        failure = (
            ContextTooLongError(f"{longest} tokens do not fit the memory")
            if is_out_of_memory(error)
            else EngineServerError(f"the model failed: {error}")
        )
        for one in batch:
            one.result.set_exception(failure)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch says that memory ran out; on a CPU only its words do.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))
        True
    """
    name = type(error).__name__
    return name in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error)
