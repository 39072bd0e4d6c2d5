"""`ContinuousBatches`: one OpenVINO pipeline for the requests of many tasks, which join and leave between two steps.

A step reads prompts that are new, or generates one token for each sequence. What a sequence gets does not depend on
the others: prompts are read whole, nothing is reused, and the cache has room for every sequence to its end, so that
none has to be put aside and read again.

OpenVINO holds Python's lock during a step. So a step reads at most `STEP_TOKENS` tokens, or one longer prompt, and
other threads get a moment after it: an event loop that has only the instant between two steps answers every third.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from flip_reward.engines.stopping import StopSignal, current_stop
from flip_reward.errors import (
    EngineServerError,
    EngineUnavailableError,
    FlipRewardError,
    RequestDroppedError,
    RequestRefusedError,
)

if TYPE_CHECKING:
    from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, GenerationHandle

STEP_TOKENS = 256
PAUSE_SECONDS = 0.001
BLOCK_TOKENS = 32
"""The cache is given out in blocks of this size."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What was computed for a sequence."""

    ids: list[int]
    logprobs: list[float]
    finish_reason: str


@dataclass(slots=True, eq=False)
class _Sequence:
    tokens: list[int]
    config: GenerationConfig
    stop: StopSignal | None
    handle: GenerationHandle | None = None
    alone: bool = False
    """It was computed with others when that failed."""
    result: Future[Generated] = field(default_factory=Future)

    @property
    def room(self) -> int:
        """The tokens that it takes in the cache in the end, in whole blocks."""
        return -(-(len(self.tokens) + int(self.config.max_new_tokens)) // BLOCK_TOKENS) * BLOCK_TOKENS


class ContinuousBatches:
    """Computes sequences with a pipeline, in a thread of its own.

    When a step fails, the pipeline is loaded again and its sequences are computed one by one, so that none fails for
    another. Sequences of work that is asked to stop are dropped where they have not begun.
    """

    def __init__(
        self,
        load: Callable[[], ContinuousBatchingPipeline],
        pipeline: ContinuousBatchingPipeline,
        *,
        room_tokens: int,
    ) -> None:
        self._load = load
        self._pipeline: ContinuousBatchingPipeline | None = pipeline
        self._room = room_tokens
        self._arrived: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._numbers = count()
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="openvino")

    async def compute(self, tokens: list[int], config: GenerationConfig) -> Generated:
        """Compute a sequence; a cancelled one leaves after the next step."""
        if self._closed:
            raise EngineUnavailableError("the engine was closed")
        one = _Sequence(tokens, config, current_stop.get())
        self._arrived.append(one)
        self._executor.submit(self._work)
        return await asyncio.wrap_future(one.result)

    def close(self) -> None:
        """Free the pipeline after the current step; whatever is not finished fails."""
        self._closed = True
        self._executor.shutdown()
        self._fail([*self._running, *self._arrived], EngineUnavailableError("the engine was closed"))
        if self._pipeline is not None and self._running:
            for one in self._running:
                if one.handle is not None:
                    one.handle.cancel()
            with suppress(RuntimeError):
                self._pipeline.step()  # lets them leave; else OpenVINO complains of them
        self._running, self._pipeline = [], None

    def _work(self) -> None:
        """Compute what is there and what arrives meanwhile, so most calls find nothing left to do."""
        try:
            while not self._closed:
                self._admit()
                if not self._running:
                    return
                self._step()
        except BaseException as error:
            failure = EngineUnavailableError(f"OpenVINO cannot go on: {_first_line(error)}")
            self._fail([*self._running, *self._arrived], failure)
            self._running, self._pipeline = [], None
            raise

    def _admit(self) -> None:
        """Let sequences join in the order in which they came, as long as there is room and the step stays short."""
        read = 0
        while self._arrived:
            one = self._arrived[0]
            if one.stop is not None and one.stop.requested:
                self._fail([one], RequestDroppedError("not computed: the run was stopped"))
            if not one.result.done():
                read += len(one.tokens)
                full = sum(other.room for other in self._running) + one.room > self._room
                apart = one.alone or any(other.alone for other in self._running)
                if self._running and (full or apart or (read > len(one.tokens) and read > STEP_TOKENS)):
                    return
                self._add(one)
            self._arrived.popleft()

    def _add(self, one: _Sequence) -> None:
        import numpy as np
        import openvino

        if self._pipeline is None:
            self._pipeline = self._load()
        try:
            tokens = openvino.Tensor(np.array([one.tokens], dtype=np.int64))
            one.handle = self._pipeline.add_request(next(self._numbers), tokens, one.config)
        except RuntimeError as error:
            self._fail([one], RequestRefusedError(f"OpenVINO refused: {_first_line(error)}", status=400))
            return
        self._running.append(one)

    def _step(self) -> None:
        if self._pipeline is None:
            return
        try:
            self._pipeline.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            # What failed stays in the pipeline, and each further step would fail.
            self._pipeline, failed, self._running = None, self._running, []
            if len(failed) == 1:
                self._fail(failed, _explain(failed[0], error))
                return
            for one in failed:
                one.alone, one.handle = True, None
            self._arrived.extendleft(reversed(failed))
            return
        self._running = [one for one in self._running if not self._collect(one)]
        time.sleep(PAUSE_SECONDS)

    def _collect(self, one: _Sequence) -> bool:
        """Give a sequence its result, if it has one; say whether it has left the pipeline."""
        if one.handle is None:
            return True
        status = one.handle.get_status().name
        if status == "RUNNING":
            if one.result.cancelled():
                one.handle.cancel()  # it leaves with the next step
            return False
        if status != "FINISHED":
            self._fail([one], EngineServerError(f"OpenVINO gave up on a request: {status.lower()}"))
        elif one.result.set_running_or_notify_cancel():
            [output] = one.handle.read_all()
            reason = output.finish_reason.name.lower()
            one.result.set_result(Generated(list(output.generated_ids), list(output.generated_log_probs), reason))
        return True

    @staticmethod
    def _fail(waiting: list[_Sequence], error: FlipRewardError) -> None:
        for one in waiting:
            if not one.result.done() and one.result.set_running_or_notify_cancel():
                one.result.set_exception(error)


def _explain(one: _Sequence, error: Exception) -> FlipRewardError:
    reason = _first_line(error)
    if one.config.structured_output_config is not None:
        return RequestRefusedError(f"OpenVINO cannot use the schema: {reason}", status=400)
    return EngineServerError(f"OpenVINO failed: {reason}")


_PLACE = re.compile(r"\[[\d:]+\] \S+: ")
"""When and where in OpenVINO's own code, which begins a message."""


def _first_line(error: BaseException) -> str:
    return _PLACE.sub("", (str(error).strip() or type(error).__name__).partition("\n")[0], count=1)
