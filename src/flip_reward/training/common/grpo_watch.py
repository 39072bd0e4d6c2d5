"""`GrpoWatch`: follows the steps of a training, keeps its metrics and samples, and ends it when asked to."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import orjson
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from flip_reward.data.files import storage_error, write_atomically
from flip_reward.errors import RunStoppedError
from flip_reward.scoring.runner import StopSignal
from flip_reward.training.common.progress import GrpoObserver, GrpoProgress
from flip_reward.training.grpo.samples import SampleTable, Split

METRICS = "metrics.jsonl"


class GrpoWatch(TrainerCallback):  # type: ignore[misc]
    """Watches a trainer.

    Args:
        folder: Where the metrics go; None in all processes but the first.
        table: Where the samples of a step are collected.
        evaluate: Whether held-out prompts are looked at, so that they are after the last step too.
        observer: Told about progress.
        stop: Ends the training after a step, with a checkpoint.
    """

    def __init__(
        self,
        folder: Path | None,
        table: SampleTable,
        *,
        evaluate: bool,
        observer: GrpoObserver,
        stop: StopSignal,
    ) -> None:
        self._folder, self._table, self._evaluate = folder, table, evaluate
        self._observer, self._stop = observer, stop
        self._first_step, self._started = 0, time.monotonic()
        self._reward: float | None = None
        self._held_out_reward: float | None = None

    def on_train_begin(self, _args: object, state: TrainerState, _control: TrainerControl, **_: object) -> None:
        """Write the metrics of earlier sessions up to the checkpoint, and count from here."""
        self._first_step, self._started = state.global_step, time.monotonic()
        if self._folder is not None:
            write_atomically(self._folder / METRICS, b"".join(map(_to_line, state.log_history)))
        self._tell(state)

    def on_step_end(self, _args: object, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the samples of the step, and stop after it when asked to."""
        self._table.write(Split.TRAIN, state.global_step)
        # The processes of a training are interrupted one after the other, and have to stop after the same step.
        if any(gather_object([self._stop.requested])) and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
        if self._evaluate and state.global_step == state.max_steps:
            control.should_evaluate = True
        self._tell(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: object) -> None:
        """Keep the metrics.

        Raises:
            RunStoppedError: The loss or its gradient is not a number. It comes before a checkpoint of the step.
            StorageError: The disk is full or not writable.
        """
        newest = state.log_history[-1]
        self._reward = newest.get("reward", self._reward)
        self._held_out_reward = newest.get("eval_reward", self._held_out_reward)
        # With float16 the trainer leaves out steps whose gradient is too large, and goes on.
        for name, what in (("loss", "loss"), *(() if args.fp16 else (("grad_norm", "gradient"),))):
            value = newest.get(name)
            if isinstance(value, float) and not math.isfinite(value):
                raise RunStoppedError(f"the {what} of step {state.global_step} is not a number")
        if self._folder is not None:
            path = self._folder / METRICS
            try:
                with path.open("ab") as file:
                    file.write(_to_line(newest))
            except OSError as error:
                raise storage_error(path, error) from error
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        left = None
        done = state.global_step - self._first_step
        if done > 0:
            left = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
        self._observer.advanced(
            GrpoProgress(state.global_step, state.max_steps, self._reward, self._held_out_reward, left)
        )


def _to_line(entry: dict[str, Any]) -> bytes:
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
