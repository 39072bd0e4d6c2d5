"""Score a stream of rows into a run folder: one session of a run."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol, TypeVar

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome, Score
from flip_reward.data.groups import SourceRow
from flip_reward.data.rows import InvalidRow
from flip_reward.engines.batch.lines import RowRequests, current_row
from flip_reward.engines.machine import OBJECTS_BETWEEN_COLLECTIONS
from flip_reward.engines.stopping import StopSignal, current_stop
from flip_reward.errors import ConversationError, DataError, RequestDroppedError, RunStoppedError
from flip_reward.rewards.base import RewardModel, ScoredGroup
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import RunFolder, read_summary
from flip_reward.scoring.servers import check_servers
from flip_reward.scoring.summary import Prices, Summary

FAILURES_BEFORE_STOP = 64
"""This many failures of the engine in a row end a run: the server is gone, and a resumed run tries them again."""
MOST_AT_ONCE = 64
"""Rows are read and recorded by up to so many. A processor that goes to and fro between reading, scoring and writing
for each row takes a fifth longer."""

T = TypeVar("T")


class Observer(Protocol):
    """Watches a run. Called on the event loop, so it must return at once."""

    def scored(self, scores: tuple[Score, ...]) -> None:
        """Some responses were recorded."""
        ...

    def rejected(self, row: InvalidRow) -> None:
        """A row could not be read."""
        ...


class Scorer(Protocol):
    """Scores groups where a run does not do so itself. Every `RewardModel` is one."""

    @property
    def adaptations(self) -> tuple[str, ...]:
        """See `RewardModel.adaptations`."""
        ...

    async def score_group(self, group: Group) -> ScoredGroup:
        """See `RewardModel.score_group`."""
        ...

    async def aclose(self) -> None:
        """Release what is held for the running event loop."""
        ...


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How a session of a run goes; none of it changes a score."""

    workers: int = 64
    """How many rows are scored at once. The engine has its own limit on requests."""
    strict: bool = False
    """Stop at the first row that cannot be read."""
    retry_refused: bool = False
    """Ask again what the engine refused in an earlier session."""
    same_model: bool = False
    """A server at another address than in earlier sessions has the same model, whatever it says of itself."""
    defers: bool = False
    """Leave out groups that are not answered whole yet: the engine notes what they ask, for a batch to answer."""


class FailureStreak:
    """Counts consecutive failures of an engine; errors name it, for example "the engine"."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._length = 0
        self._last = ""

    @property
    def lost(self) -> bool:
        """Whether there were enough to conclude that the engine is gone."""
        return self._length >= FAILURES_BEFORE_STOP

    def add(self, detail: str | None) -> None:
        """Count one failure."""
        self._length += 1
        self._last = detail or self._last

    def end(self) -> None:
        """Start counting again: the engine has answered."""
        self._length = 0

    def count(self, scores: Sequence[Score]) -> None:
        """Count the scores of a group."""
        for score in scores:
            if not score.cost.attempts:
                continue  # nothing was asked for it: another response of its group stands for the request
            if score.outcome is Outcome.ENGINE_FAILURE:
                self.add(score.detail)
            else:
                self.end()

    def raise_if_lost(self) -> None:
        """End the session with a RunStoppedError if the engine is gone."""
        if self.lost:
            raise RunStoppedError(
                f"{self._name} failed {self._length} times in a row, last: {self._last}",
                hint="everything finished is kept; run the same command again to go on",
            )


async def run_workers(count: int, work: Callable[[], Coroutine[object, object, None]], stop: StopSignal) -> None:
    """Run this many workers at once, which obey a signal; the first error cancels the others and is raised."""

    async def start() -> None:
        current_stop.set(stop)
        await work()

    workers = [asyncio.create_task(start()) for _ in range(count)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], OBJECTS_BETWEEN_COLLECTIONS) if before[0] else 0, *before[1:])  # 0 is off
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _read_ahead(rows: Iterator[T], count: int) -> Iterator[T]:
    """Read so many rows at once. Those before an error come before it."""
    read: list[T] | None = None
    while read is None or len(read) == count:
        read = []
        try:
            read.extend(islice(rows, count))
        finally:
            yield from read


def _widest(limit: int | None, earlier: Summary | None) -> int | None:
    """How many of the first rows a run covers, where an earlier session may have completed more of them."""
    if limit is None or earlier is None or not earlier.complete:
        return limit
    return None if earlier.limit is None else max(limit, earlier.limit)


class Run:
    """One session of scoring."""

    def __init__(
        self,
        reward: RewardModel,
        folder: RunFolder,
        *,
        scorer: Scorer | None = None,
        limits: RunLimits | None = None,
        observer: Observer | None = None,
        stop: StopSignal | None = None,
    ) -> None:
        self._reward = reward
        self._scorer: Scorer = scorer or reward
        self._folder = folder
        self._limits = limits or RunLimits()
        self._observer = observer
        self._stop = stop or StopSignal()
        self._failures = FailureStreak("the engine" if reward.engines else "the reward")
        self._at_once = min(self._limits.workers, MOST_AT_ONCE)
        self._scored: list[Sequence[Record]] = []
        self._turns, self._notes_turn = 0, False
        self._error: Exception | None = None
        self._left_early = False
        self._deferred = False

    async def score(
        self, rows: Iterator[SourceRow | InvalidRow], *, prices: Prices | None = None, limit: int | None = None
    ) -> Summary:
        """Score the rows that are not completed yet, and write the summary, whatever ends the session.

        `limit` is how many rows of the inputs `rows` are taken from, for the summary.
        """
        started = time.perf_counter()
        limit = _widest(limit, read_summary(self._folder.path))
        complete = False
        try:
            same_model = self._limits.same_model
            pending = await check_servers(rows, self._folder, self._reward.engines, same_model=same_model)
            with _collecting_seldom():
                await self._score_rows(_read_ahead(pending, self._at_once))
            self._failures.raise_if_lost()
            complete = not (self._left_early or self._deferred)
        finally:
            summary = self._folder.tally.summarise(
                complete=complete and not self._folder.tally.outcomes[Outcome.ENGINE_FAILURE],
                interrupted=self._left_early,
                limit=limit,
                rows=len(self._folder.completed),
                rejected_rows=self._folder.rejected_rows,
                resumed_responses=self._folder.resumed_responses,
                seconds=time.perf_counter() - started,
                prices=prices,
            )
            self._folder.write_summary(summary, self._scorer.adaptations)
        return summary

    async def _score_rows(self, rows: Iterator[SourceRow | InvalidRow]) -> None:
        try:
            await run_workers(self._limits.workers, lambda: self._work(rows), self._stop)
        finally:
            self._record()

    async def _work(self, rows: Iterator[SourceRow | InvalidRow]) -> None:
        for row in rows:  # shared by all workers: each takes the next one
            if isinstance(row, InvalidRow):
                self._reject(row)
            else:
                await self._score_row(row)
            if self._stop.requested or self._failures.lost:
                self._left_early = True
                return

    async def _score_row(self, row: SourceRow) -> None:
        group = row.group
        size = len(group.responses)
        if self._limits.defers:
            current_row.set(RowRequests(row.position))
        self._note_turn()
        turns = self._turns
        indices = self._folder.completed.pending(row.position, group_size=size)
        if len(indices) < size and not self._reward.independent:
            indices = list(range(size))
        try:
            scored = await self._scorer.score_group(group if len(indices) == size else group.only(indices))
        except ConversationError as error:
            self._reject(row.reject(str(error)))
            return
        except RequestDroppedError:
            self._deferred = True
            return
        scores = scored.scores
        records = [
            Record(row.position, group.id, size, index, scored.instruction, score)
            for index, score in zip(indices, scores, strict=True)
        ]
        if (self._limits.defers or self._stop.requested) and not all(record.completed for record in records):
            if self._limits.defers:
                self._deferred = True
                return
            # The next session asks what was dropped or failed, of rewards that compare responses the whole group.
            records = [record for record in records if record.completed and self._reward.independent]
            if not records:
                return
            scores = tuple([record.score for record in records])
        self._failures.count(scores)
        self._scored.append(records)
        if turns != self._turns or len(self._scored) >= self._at_once:
            self._record()

    def _note_turn(self) -> None:
        """Notice when the loop turns to other work: before it waits for anything, what is scored is recorded."""
        if not self._notes_turn:
            self._notes_turn = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._notes_turn = False
        self._turns += 1
        try:
            self._record()
        except Exception as error:  # noqa: BLE001 - the loop would only log it; the next worker raises it
            self._error = error

    def _record(self) -> None:
        """Write the records of the groups that were scored; only now are these completed."""
        if self._error:
            raise self._error
        scored, self._scored = self._scored, []
        if scored:
            self._folder.append(list(chain.from_iterable(scored)))
        if self._observer:
            for records in scored:
                self._observer.scored(tuple([record.score for record in records]))

    def _reject(self, row: InvalidRow) -> None:
        self._folder.reject(row)
        if self._observer:
            self._observer.rejected(row)
        if self._limits.strict:
            raise DataError(f"{row.source}, line {row.line}: {row.reason}", hint="leave out --strict to go on")
