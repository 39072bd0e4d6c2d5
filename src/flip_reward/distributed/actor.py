"""The worker: a reward and its engine in a process of the cluster. It asks many requests at once."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from flip_reward.core.conversation import Group
from flip_reward.engines.base import Completion, LogprobRequest, Request, TokenLogprobs
from flip_reward.engines.machine import OBJECTS_BETWEEN_COLLECTIONS
from flip_reward.engines.stopping import StopSignal, current_stop
from flip_reward.errors import EngineUnavailableError, FlipRewardError
from flip_reward.rewards.base import RewardModel, ScoredGroup
from flip_reward.rewards.config import RewardConfig, SharedEngines

Answer: TypeAlias = ScoredGroup | FlipRewardError
"""What became of a group. An exception would end the call, and with it the others."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to know; it crosses processes, and its keys stay out of what Ray logs."""

    config: RewardConfig
    environment: Mapping[str, str]
    folder: str
    """Where relative paths begin, if there is such a folder on the worker's node."""

    def load(self, shared: SharedEngines | None = None) -> RewardModel:
        """Load the reward in this process; an error names the node."""
        os.environ.update(self.environment)
        with suppress(OSError):
            os.chdir(self.folder)
        try:
            return self.config.load(shared=shared)
        except FlipRewardError as error:
            raise on_node(error) from error


def on_node(error: FlipRewardError) -> FlipRewardError:
    """Add to an error on which node it came up."""
    error.args = (f"{error} (on node {socket.gethostname()})", *error.args[1:])
    return error


class EngineElsewhere:
    """An engine that workers hold, as the process knows it that sends them rows: by name and identity."""

    def __init__(self, model: str, identity: str) -> None:
        self.model = model
        self.identity = identity

    async def complete(self, _: Request) -> Completion:
        """Refuse: the workers ask."""
        raise self._elsewhere

    async def logprobs(self, _: LogprobRequest) -> TokenLogprobs:
        """Refuse: the workers ask."""
        raise self._elsewhere

    @property
    def _elsewhere(self) -> EngineUnavailableError:
        return EngineUnavailableError(f"{self.model} runs in the workers of a cluster, not in this process")

    async def aclose(self) -> None:
        """Nothing to release."""


class ScoringActor:
    """Scores groups for a `RayScorer`. Its model is loaded by `load`, so that an error can be returned."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._shared = SharedEngines()
        self._reward: RewardModel | None = None
        self._stop = StopSignal()
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)

    async def place(self) -> str:
        """Return the name of the node that this worker runs on."""
        return socket.gethostname()

    async def load(self) -> FlipRewardError | None:
        """Load the model; return why it cannot be."""
        try:
            self._reward = self._reward or self._job.load(self._shared)
        except FlipRewardError as error:
            return error
        return None

    async def describe(self, config: RewardConfig) -> tuple[str, str] | FlipRewardError:
        """Load the model; return name and identity of the engine of a part of the reward, or why it cannot be."""
        error = await self.load()
        if error is not None:
            return error
        engine = self._shared.find(config)
        return engine.model, engine.identity

    async def score(self, groups: Sequence[Group]) -> AsyncIterator[tuple[list[tuple[int, Answer]], tuple[str, ...]]]:
        """Score groups at once; yield the finished ones, each with its place, and how requests are changed."""
        assert self._reward is not None  # noqa: S101 - `load` comes first
        reward, finished, some = self._reward, list[tuple[int, asyncio.Task[ScoredGroup]]](), asyncio.Event()

        async def score_one(group: Group) -> ScoredGroup:
            current_stop.set(self._stop)
            return await reward.score_group(group)

        def note(place: int, task: asyncio.Task[ScoredGroup]) -> None:
            finished.append((place, task))
            some.set()

        for place, group in enumerate(groups):
            asyncio.create_task(score_one(group)).add_done_callback(partial(note, place))
        left = len(groups)
        while left:
            await some.wait()
            some.clear()
            chunk, finished[:] = finished[:], []
            left -= len(chunk)
            yield [(place, _read_answer(task)) for place, task in chunk], reward.adaptations

    async def stop(self) -> None:
        """Finish the requests in flight, and start no more."""
        self._stop.requested = True


def _read_answer(task: asyncio.Task[ScoredGroup]) -> Answer:
    error = task.exception()
    return error if isinstance(error, FlipRewardError) else task.result()
