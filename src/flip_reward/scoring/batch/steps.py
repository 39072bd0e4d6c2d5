"""The steps of a run by batches: submit, look, collect. Each may be interrupted anywhere, and taken again.

Every step that records anything runs the same pass over the rows as a live run does (`OpenedJob.run`): a group whose
replies are all there is recorded, and any other asks for those that are missing, which `submit` sends. A reward that
asks in several rounds so takes a batch for each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Self

from flip_reward.engines.base import Engine
from flip_reward.engines.batch.client import GONE, Batch, BatchClient, BatchState
from flip_reward.engines.batch.engine import BatchEngine
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import innermost, replace_innermost
from flip_reward.engines.stopping import StopSignal, current_stop, pause
from flip_reward.errors import (
    EngineError,
    MalformedCompletionError,
    OptionError,
    RequestDroppedError,
    RequestRefusedError,
    RunError,
)
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.calibration import CalibratedReward
from flip_reward.rewards.composite.reward import CompositeReward
from flip_reward.scoring.batch.store import FETCHED, SENDING, BatchStore, SubmittedBatch, Taken
from flip_reward.scoring.job import OpenedJob
from flip_reward.scoring.runner import Observer
from flip_reward.scoring.summary import Summary

NAME = "flip_reward"
"""The name in a batch's metadata by which it is found again."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0

Watch = Callable[[Sequence[SubmittedBatch]], None]
"""Is shown the batches each time they were looked at."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run by batches is."""

    batches: Sequence[SubmittedBatch]
    """All that were ever made, in order."""
    summary: Summary | None = None
    """Of what is recorded; None where nothing was looked at but the batches."""
    missing: int = 0
    """How many requests no batch holds: `submit` asks them."""
    failures: int = 0
    """How many of these failed before."""
    failure: str | None = None
    """Why the last one did."""

    @classmethod
    def of(cls, store: BatchStore, summary: Summary) -> Self:
        """Say how far a run is after a pass over its rows."""
        errors = [batch.error for batch in store.batches if batch.error]
        failure = store.failure or (errors[-1] if errors else None)
        return cls(store.batches, summary, store.missing, store.failures, failure)


def find_engine(reward: RewardModel) -> HttpEngine:
    """Return the server behind a reward; an OptionError where batches cannot ask for it."""
    engines = [innermost(engine) for engine in reward.engines.values()]
    servers = [engine for engine in engines if isinstance(engine, HttpEngine)]
    if not engines:
        raise OptionError("this reward asks no model, so there is nothing for a batch")
    if len(servers) < len(engines):
        raise OptionError(
            "a batch is answered by a server, and this model runs in this process", hint="name a server's model"
        )
    models = sorted({server.model for server in servers})
    if len(models) > 1 or len({server.base_url for server in servers}) > 1:
        raise OptionError(
            f"a batch asks one model, and this reward asks {' and '.join(models)}",
            hint="score each part of the formula by itself",
        )
    return servers[0]


async def prepare(
    opened: OpenedJob,
    store: BatchStore,
    *,
    live: bool = False,
    observer: Observer | None = None,
    stop: StopSignal | None = None,
) -> Summary:
    """Record what is answered, and write what is not into new requests files: unsent batches of the store.

    With `live` the first request of the run is asked right away, to know what form of it the model takes.
    """
    live = live and not store.batches
    retry_refused = opened.job.limits.retry_refused
    with store.writing():
        summary = await _pass(opened, store, observer, stop, live=live, retry_refused=retry_refused)
        if store.missing:
            opened.folder.begin()
    return summary


async def record(
    opened: OpenedJob, store: BatchStore, *, observer: Observer | None = None, stop: StopSignal | None = None
) -> Summary:
    """Record what is answered, and count what is not (`store.missing`)."""
    return await _pass(opened, store, observer, stop)


async def _pass(
    opened: OpenedJob,
    store: BatchStore,
    observer: Observer | None,
    stop: StopSignal | None,
    *,
    live: bool = False,
    retry_refused: bool = False,
) -> Summary:
    find_engine(opened.job.reward)
    made: dict[int, Engine] = {}

    def by_batch(engine: Engine) -> Engine:  # the parts of a formula may share one
        if id(engine) not in made:
            made[id(engine)] = replace_innermost(engine, make)
        return made[id(engine)]

    def make(inside: Engine) -> Engine:
        assert isinstance(inside, HttpEngine)  # noqa: S101 - says `find_engine`
        return BatchEngine(inside, store, live=live, retry_refused=retry_refused)

    job = opened.job
    job = replace(job, reward=_replace_engines(job.reward, by_batch), limits=replace(job.limits, defers=True))
    return await replace(opened, job=job).run(observer=observer, stop=stop)


def _replace_engines(reward: RewardModel, make: Callable[[Engine], Engine]) -> RewardModel:
    if isinstance(reward, CalibratedReward):
        return CalibratedReward(_replace_engines(reward.uncalibrated, make), reward.calibration)
    if isinstance(reward, CompositeReward):
        asking = {name: part.engine for name, part in reward.parts.items()}
        return reward.with_engines({name: make(engine) for name, engine in asking.items() if engine is not None})
    return reward.with_engine(make(reward.required_engine))


async def submit(
    opened: OpenedJob,
    store: BatchStore,
    client: BatchClient,
    *,
    observer: Observer | None = None,
    stop: StopSignal | None = None,
) -> Progress:
    """Fetch what ended batches answered, ask what is missing, and send every batch that is unsent."""
    stop = stop or StopSignal()
    current_stop.set(stop)
    await _look(store, client)
    await _fetch(store, client)
    summary = await prepare(opened, store, live=True, observer=observer, stop=stop)
    for batch in store.batches:
        if batch.to_send and not stop.requested:
            await _send(store, client, batch)
    return Progress.of(store, summary)


async def status(store: BatchStore, client: BatchClient) -> Progress:
    """Ask for the state of the batches that are not collected."""
    await _look(store, client)
    return Progress(store.batches)


async def collect(
    opened: OpenedJob,
    store: BatchStore,
    client: BatchClient,
    *,
    wait: bool = False,
    watch: Watch | None = None,
    observer: Observer | None = None,
    stop: StopSignal | None = None,
) -> Progress:
    """Fetch what ended batches answered, and record it; with `wait` as soon as every batch has ended."""
    stop = stop or StopSignal()
    current_stop.set(stop)
    seconds = FIRST_WAIT_SECONDS
    while True:
        await _look(store, client)
        if watch is not None:
            watch(store.batches)
        await _fetch(store, client)
        if not (wait and any(batch.awaited for batch in store.batches)):
            break
        try:
            await pause(seconds)
        except RequestDroppedError:
            return Progress(store.batches)
        seconds = min(seconds * 1.5, LONGEST_WAIT_SECONDS)
    return Progress.of(store, await record(opened, store, observer=observer, stop=stop))


async def _look(store: BatchStore, client: BatchClient) -> None:
    """Note the state of every batch that is awaited."""
    for batch in store.batches:
        if not batch.awaited:
            continue
        assert batch.id is not None  # noqa: S101 - it was sent
        try:
            _note(batch, await client.get(batch.id))
        except RequestRefusedError as error:
            if error.status != GONE:
                raise
            raise _of_another_account(batch, client) from error
        store.save()


def _of_another_account(batch: SubmittedBatch, client: BatchClient) -> RunError:
    address = client.server.base_url
    if batch.server not in (None, address):
        return RunError(f"batch {batch.id} was sent to {batch.server}, not to {address}", hint="set it by --base-url")
    return RunError(
        f"{address} knows no batch {batch.id}: it is of another account, or was deleted",
        hint="set the key that it was submitted with; to ask its requests again, write "
        f'"collected": true at number {batch.number} of batch/batches.json in the run folder',
    )


def _note(batch: SubmittedBatch, found: Batch) -> None:
    batch.id, batch.state, batch.expires_at = found.id, found.state.value, found.expires_at
    batch.completed, batch.failed = found.completed, found.failed
    batch.error = found.errors[0] if found.errors else None
    batch.output_file, batch.error_file = found.output_file, found.error_file


async def _fetch(store: BatchStore, client: BatchClient) -> None:
    """Take over the replies of every batch that has ended; its state must be known."""
    for batch in filter(_has_ended, store.batches):
        # Of two replies to one request the last counts, and that is not to be an error.
        for name in filter(None, (batch.error_file, batch.output_file)):
            try:
                taken = await _take(store, client, name)
                if taken.damaged:
                    batch.error = f"file {name} of batch {batch.id} has damaged lines: {taken.damaged:,}"
            except RequestRefusedError as error:
                if error.status != GONE:
                    raise
                batch.error = f"file {name} of batch {batch.id} is gone: it has expired, or was deleted"
        store.collect(batch)


async def _take(store: BatchStore, client: BatchClient, name: str) -> Taken:
    """Take over a file of replies. What is cut off is fetched again: its other replies are paid for."""
    file, started = store.path / FETCHED, time.monotonic()
    for attempts in count(1):
        try:
            await client.download(name, file)
            taken = store.take(file)
        finally:
            file.unlink(missing_ok=True)
        if not taken.unfinished:
            return taken
        error = MalformedCompletionError(
            f"file {name} ends in the middle of a line",
            hint="its whole lines are kept; the same command fetches it again",
        )
        if not client.retry.allows_retry(attempts, time.monotonic() - started):
            raise error
        await pause(client.retry.wait_seconds(error, attempts))
    raise AssertionError


def _has_ended(batch: SubmittedBatch) -> bool:
    return batch.awaited and BatchState(batch.state).ended


async def _send(store: BatchStore, client: BatchClient, batch: SubmittedBatch) -> None:
    """Send a batch, unless it was sent before without our hearing of it."""
    uploaded, started = None, time.monotonic()
    for attempts in count(1):
        found = await _find(client, batch.token) if batch.state == SENDING else None
        if found is None:
            uploaded = uploaded or await client.upload(store.requests_file(batch))
            batch.state = SENDING
            store.save()
            try:
                found = await client.create(uploaded, {NAME: batch.token})
            except EngineError as error:
                if not (error.retryable and client.retry.allows_retry(attempts, time.monotonic() - started)):
                    raise
                await pause(client.retry.wait_seconds(error, attempts))
                continue
        _note(batch, found)
        batch.server = client.server.base_url
        store.save()
        return


async def _find(client: BatchClient, token: str) -> Batch | None:
    async for batch in client.list():
        if batch.metadata.get(NAME) == token:
            return batch
    return None
