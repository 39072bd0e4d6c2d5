"""`TuningWatch`: follows the steps of a trainer, tells of them, and ends it when asked to."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState

from flip_reward.errors import RunStoppedError
from flip_reward.scoring.runner import StopSignal
from flip_reward.training.common.metrics_file import write_metrics
from flip_reward.training.common.tuning_progress import TuningObserver, TuningProgress

SMALLER_STEPS = "take a smaller learning_rate, or precision=float32, and another folder with --output"
"""What to do where weights are spoilt."""

_FIGURES = {"loss": "loss", "eval_loss": "loss of held-out rows", "grad_norm": "gradient"}


class TuningWatch(TrainerCallback):  # type: ignore[misc]
    """Watches a trainer.

    Args:
        lengths: The tokens of every text, in the order in which they are seen.
        rows_a_step: So many texts make a step.
        steps: All steps.
        folder: Where the metrics go.
        observer: Told about progress.
        stop: Ends the tuning after a step, with a checkpoint.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        rows_a_step: int,
        steps: int,
        folder: Path,
        observer: TuningObserver,
        stop: StopSignal,
    ) -> None:
        self._steps, self._folder, self._observer, self._stop = steps, folder, observer, stop
        self._rows_a_step = rows_a_step
        self._tokens_before = [0, *accumulate(lengths)]
        self._first_step, self._started = 0, time.monotonic()
        self._loss: float | None = None
        self._held_out_loss: float | None = None

    def on_epoch_begin(self, _args: object, state: TrainerState, _control: TrainerControl, **_: object) -> None:
        """Count from here: what was evaluated before is no part of the speed."""
        self._first_step, self._started = state.global_step, time.monotonic()
        self._tell(state)

    def on_step_end(self, _args: object, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Tell of a step, and stop after it when asked to."""
        if self._stop.requested and state.global_step < self._steps:
            control.should_save = control.should_training_stop = True
        self._tell(state)

    def on_log(self, _args: object, state: TrainerState, _control: TrainerControl, **_: object) -> None:
        """Keep the losses.

        Raises:
            RunStoppedError: One, or the gradient, is not a number. It comes before a checkpoint of the step.
        """
        newest = state.log_history[-1]
        self._loss = newest.get("loss", self._loss)
        self._held_out_loss = newest.get("eval_loss", self._held_out_loss)
        for name, what in _FIGURES.items():
            if not math.isfinite(newest.get(name) or 0.0):
                raise RunStoppedError(f"the {what} of step {state.global_step} is not a number", hint=SMALLER_STEPS)
        write_metrics(self._folder, state.log_history)
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        speed = left = None
        if state.global_step > self._first_step:
            tokens = self._count(state.global_step) - self._count(self._first_step)
            speed = tokens / (time.monotonic() - self._started)
            left = (self._count(self._steps) - self._count(state.global_step)) / speed
        progress = TuningProgress(state.global_step, self._steps, self._loss, self._held_out_loss, speed, left)
        self._observer.advanced(progress)

    def _count(self, step: int) -> int:
        return self._tokens_before[min(step * self._rows_a_step, len(self._tokens_before) - 1)]
