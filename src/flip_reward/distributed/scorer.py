"""`RayScorer`: scores the groups of a run in workers on a Ray cluster."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flip_reward.core.conversation import Group
from flip_reward.distributed.actor import EngineElsewhere, Job, ScoringActor
from flip_reward.distributed.cluster import (
    Workers,
    check_resources,
    choose_resources,
    connect,
    import_ray,
    pick_environment,
)
from flip_reward.engines.base import Engine
from flip_reward.engines.config import runs_in_process
from flip_reward.engines.stopping import StopSignal, current_stop
from flip_reward.errors import EngineUnavailableError, FlipRewardError, RequestDroppedError, RunStoppedError
from flip_reward.rewards.base import RewardModel, ScoredGroup
from flip_reward.rewards.config import RewardConfig, SharedEngines

_PLACING_SECONDS = 60.0
"""How long a worker may take to begin, where the cluster has room for it."""
_MOST_DEATHS = 5
"""So many times in a row a worker may die without an answer: a row, or the model, kills it."""
_LOOK_SECONDS = 0.2
_TWO = Workers(2, 2)


@dataclass(eq=False, slots=True)
class _Asked:
    """A group that waits for its scores."""

    group: Group
    answer: asyncio.Future[ScoredGroup]

    def settle(self, answer: ScoredGroup | Exception) -> None:
        if self.answer.done():
            return  # nobody waits any more
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


@dataclass(eq=False, slots=True)
class _Worker:
    handle: Any
    in_flight: int = 0
    life: int = 0
    """How often it was started again."""
    deaths: int = 0
    """How often it died since its last answer."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class RayScorer:
    """Scores groups in workers on a Ray cluster: what a `ScoringJob` takes as its `scorer`.

    Groups that wait at the same time go to a worker together, and each comes back as soon as it is scored. A worker
    holds its own engine, so that the limit on requests in flight is each worker's. What a worker has not answered
    when it dies is asked again elsewhere.

    Args:
        config: The reward. It, and not its model, is sent to the workers.
        address: `local` for a cluster of its own on this machine, `auto`, HOST:PORT or ray://HOST:PORT.
        workers: How many.
        num_cpus: CPUs that one takes; by default a quarter, and a whole one for a model that runs on it.
        num_gpus: GPUs that one takes; by default one for a model in its process where the cluster has any.

    Raises:
        OptionError: The cluster has no room for the workers.
        EngineUnavailableError: There is no cluster, or the workers did not begin.
        MissingDependencyError: Ray is not installed.
    """

    def __init__(
        self,
        config: RewardConfig,
        address: str,
        workers: Workers = _TWO,
        *,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
    ) -> None:
        self._config = config
        self._room = 2 * config.engine.requests_at_once  # more than are in flight, so that no worker waits for rows
        self.rows_at_once = self._room * workers.most
        self.adaptations: tuple[str, ...] = ()
        self._waiting: deque[_Asked] = deque()
        self._ready: list[_Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = StopSignal()
        self._failure: Exception | None = None
        self._woken = False
        self._ray = import_ray()
        self._connected = connect(address)
        try:
            each = choose_resources(config, num_cpus, num_gpus)
            check_resources(workers.least, each)
            self._workers = self._begin(workers, each)
        except BaseException:
            self.close()
            raise

    def _begin(self, workers: Workers, each: Mapping[str, float]) -> list[_Worker]:
        make = self._ray.remote(
            num_cpus=each["CPU"],
            num_gpus=each["GPU"],
            max_restarts=-1,
            max_task_retries=0,  # only what was not answered is asked again
            max_concurrency=self._room + 8,
        )(ScoringActor)
        job = Job(self._config, pick_environment(self._config), str(Path.cwd()))
        begun = [_Worker(make.remote(job)) for _ in range(workers.most)]
        placed = [one.handle.place.options(max_task_retries=-1).remote() for one in begun]
        try:
            there, _ = self._ray.wait(placed, num_returns=workers.least, timeout=_PLACING_SECONDS)
            self._ray.get(there)
        except self._ray.exceptions.RayError as error:
            raise EngineUnavailableError(
                f"the workers cannot begin: {_last_line(error)}",
                hint="each node of the cluster needs this version of flip-reward, with what the model needs",
            ) from error
        if len(there) < workers.least:
            raise EngineUnavailableError(
                f"{len(there)} of {workers.least} workers began within {_PLACING_SECONDS:g} s",
                hint="'ray status' says more",
            )
        return begun

    def load_reward(self) -> RewardModel:
        """Load the reward for this process, without a model that runs in the workers."""
        return self._config.load(shared=_EnginesElsewhere(self))

    def describe(self, config: RewardConfig) -> Engine:
        """Return what is known of an engine that the workers hold."""
        handle = self._workers[0].handle
        try:
            found = self._ray.get(handle.describe.options(max_task_retries=_MOST_DEATHS - 1).remote(config))
        except self._ray.exceptions.RayError as error:
            raise EngineUnavailableError(f"a worker ended while it loaded the model: {_last_line(error)}") from error
        if isinstance(found, FlipRewardError):
            raise found
        return EngineElsewhere(*found)

    async def score_group(self, group: Group) -> ScoredGroup:
        """Score a group in one of the workers; see `RewardModel.score_group`."""
        if not self._tasks:
            self._stop = current_stop.get() or self._stop
            for work in (self._watch(), *map(self._keep, self._workers)):
                self._spawn(work)
        asked = _Asked(group, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._wake()
        return await asked.answer

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._failure = self._failure or error
            self._wake()

    async def _watch(self) -> None:
        """Tell the workers when the run is to stop."""
        while not self._stop.requested:  # noqa: ASYNC110 - a signal handler sets it
            await asyncio.sleep(_LOOK_SECONDS)
        for worker in self._ready:
            worker.handle.stop.remote()
        self._wake()

    async def _keep(self, worker: _Worker) -> None:
        """Load a worker's model, and again whenever it was lost."""
        while True:
            try:
                await self._load(worker)
            except self._ray.exceptions.RayActorError as error:
                self._count_death(worker, error)
                continue
            worker.lost.clear()
            self._ready.append(worker)
            self._wake()
            await worker.lost.wait()

    async def _load(self, worker: _Worker) -> None:
        placed = worker.handle.place.options(max_task_retries=-1).remote()
        while worker.life:  # one that was not there yet may wait for a node as long as others work
            done, _ = await asyncio.wait([asyncio.ensure_future(placed)], timeout=_PLACING_SECONDS)
            if done:
                break
            if not self._ready:
                raise RunStoppedError("no worker is left on the cluster", hint=_GO_ON)
        await placed
        error = await worker.handle.load.remote()
        if error is not None:
            raise error

    def _count_death(self, worker: _Worker, error: Exception) -> None:
        worker.life += 1
        worker.deaths += 1
        if worker.deaths == _MOST_DEATHS:
            raise RunStoppedError(
                f"a worker died {_MOST_DEATHS} times in a row without an answer, last: {_last_line(error)}",
                hint=_GO_ON,
            )

    def _wake(self) -> None:
        """Send what waits in the loop's next round, so that what comes at the same time goes together."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        self._woken = False
        refusal: Exception | None = self._failure
        if refusal is None and self._stop.requested:
            refusal = RequestDroppedError("not asked: the run was stopped")
        while refusal is not None and self._waiting:
            self._waiting.popleft().settle(refusal)
        share = -(-len(self._waiting) // max(len(self._ready), 1))
        for worker in sorted(self._ready, key=lambda one: one.in_flight):
            count = min(share, self._room - worker.in_flight, len(self._waiting))
            if count > 0:
                worker.in_flight += count
                self._spawn(self._ask(worker, [self._waiting.popleft() for _ in range(count)]))

    async def _ask(self, worker: _Worker, asked: Sequence[_Asked]) -> None:
        """Have a worker score some groups; what it leaves waits again."""
        left, life = dict(enumerate(asked)), worker.life
        exceptions = self._ray.exceptions
        try:
            async for coming in worker.handle.score.remote([one.group for one in asked]):
                answers, adaptations = await coming
                self.adaptations = tuple(dict.fromkeys((*self.adaptations, *adaptations)))
                for place, answer in answers:
                    left.pop(place).settle(answer)
                    worker.in_flight -= 1
                worker.deaths = 0
                self._wake()
        except exceptions.RayTaskError as error:
            for one in left.values():
                one.settle(error.cause)
        except (exceptions.RayActorError, exceptions.ObjectLostError) as error:
            self._waiting.extendleft(reversed(left.values()))
            if worker.life == life:
                self._ready.remove(worker)
                worker.lost.set()
                self._count_death(worker, error)
        except Exception as error:
            for one in left.values():  # nobody may wait for ever
                one.settle(error)
            raise
        finally:
            worker.in_flight -= len(left)
            self._wake()

    async def aclose(self) -> None:
        """Stop what is under way in this event loop; the workers stay until `close`."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """End the workers, and the connection where it was made here."""
        for worker in getattr(self, "_workers", ()):
            self._ray.kill(worker.handle)
        if self._connected:
            self._ray.shutdown()


_GO_ON = "everything finished is kept; run the same command again to go on"


class _EnginesElsewhere(SharedEngines):
    """Finds engines of models that run in workers there, and makes the others."""

    def __init__(self, scorer: RayScorer) -> None:
        super().__init__()
        self._scorer = scorer

    def find(self, config: RewardConfig) -> Engine:
        """See `SharedEngines.find`."""
        model = config.answering.model
        if model in (None, "scripted") or not runs_in_process(model or ""):
            return super().find(config)
        return self._scorer.describe(config)


def _last_line(error: Exception) -> str:
    """Return what an error of Ray comes to: the last line of its traceback."""
    return str(error).strip().rpartition("\n")[2].strip()
