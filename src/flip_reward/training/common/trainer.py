"""What both trainers do differently from TRL. Imported only by them, since it is heavy.

`RobustCheckpointMixin`: checkpoints are whole and of good weights, no step is taken twice, and nothing is reported.
`ProgressCallback`: follows the steps, keeps the metrics, and stops when asked to.
`RandomState`: every generator that a training draws from, to restore later.
"""

from __future__ import annotations

import math
import random
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from flip_reward.data.files import storage_error, write_atomically
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError, RunStoppedError, StorageError
from flip_reward.report.training.folder import METRICS
from flip_reward.training.common.folder import drop_oldest, find_last, mark_whole
from flip_reward.training.common.progress import Progress, TrainingObserver


class RobustCheckpointMixin(Trainer):  # type: ignore[misc]
    """Comes before one of TRL's trainers among the bases of a class."""

    advice: ClassVar[str]
    """The hint where weights are spoilt."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - the signature of the trainer
        super().__init__(*arguments, **named)
        # The trainer would remove older checkpoints before the newest is whole.
        self._keep, self.args.save_total_limit = self.args.save_total_limit, None
        self.remove_callback(PrinterCallback)

    def resume(self, observer: TrainingObserver) -> None:
        """Train, from the last checkpoint where there is one."""
        last = find_last(Path(self.args.output_dir))
        if last is not None:
            observer.say(f"Going on from step {last.name.rpartition('-')[2]}")
        try:
            self.train(resume_from_checkpoint=str(last) if last else None)
        except (ValueError, TypeError) as error:
            if last is not None or self.state.global_step or _is_ours(error):
                raise
            # TRL looks at some keys only when it uses them.
            raise OptionError(f"TRL does not take the recipe: {' '.join(str(error).split())}") from error

    def _run_epoch(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the signature of the trainer
        # The trainer looks for the end after a step, so one that was killed after its last step would take another.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*arguments, **named)

    def _save_checkpoint(self, model: object, trial: object) -> None:
        checkpoint = self._checkpoint()
        self._check_weights()
        with self._writing("checkpoint", checkpoint):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                self._add_to(checkpoint)
                mark_whole(checkpoint)
        if self.is_world_process_zero() and (self._keep or 0) > 0:
            best = self.state.best_model_checkpoint
            drop_oldest(checkpoint.parent, self._keep, best=Path(best) if best else None)

    def _add_to(self, checkpoint: Path) -> None:
        """Write what a checkpoint holds beside TRL's files."""

    def _check_weights(self) -> None:
        """Stop before spoilt weights are written, whose loss may not have been logged."""
        good = all(_is_finite(weight) for weight in self.model.parameters() if weight.requires_grad)
        if not all(gather_object([good])):
            raise RunStoppedError(f"after step {self.state.global_step} weights are not numbers", hint=self.advice)

    @contextmanager
    def _writing(self, what: str, folder: Path) -> Iterator[None]:
        """Leave no half-written folder, and say where the same command resumes."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            last = find_last(Path(self.args.output_dir))
            kept = f"{last.name} is kept, and the same command goes on from it" if last else "there was none before"
            reason = str(error).partition("\n")[0]
            raise StorageError(f"cannot write the {what} {folder}: {reason}", hint=kept) from error

    def _checkpoint(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _send_telemetry(self) -> None:
        """Report nothing about what a user trains."""

    def create_model_card(self, *_: object, **__: object) -> None:
        """Write no card, since it would name folders of this machine."""


def _is_ours(error: BaseException) -> bool:
    """Whether an error comes from this package: then the recipe is not what is wrong."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("flip_reward.")


def _is_finite(weight: torch.nn.Parameter) -> bool:
    """Whether all numbers that this process holds of a weight are finite."""
    part: Any = getattr(weight, "ds_tensor", weight)  # where DeepSpeed keeps it
    if hasattr(part, "to_local"):  # FSDP
        part = part.to_local()
    return bool(torch.isfinite(part).all())


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Follows the steps of a trainer: reports them, writes `metrics.jsonl`, and ends it when asked to.

    Args:
        folder: Where the metrics go; None in all processes but the first.
        observer: Told about progress.
        stop: Ends the training after a step, with a checkpoint.
        figures: Names in the trainer's log, and what the observer calls them.
        numbers: Names in the log of figures that have to be numbers, and what errors call them.
        metrics: Names in the log, and those in `metrics.jsonl`. None writes the whole log.
        tokens: The tokens read up to each step, from step 0 on; the pace is then in tokens.
        advice: The hint where a figure is not a number.
    """

    def __init__(
        self,
        folder: Path | None,
        observer: TrainingObserver,
        stop: StopSignal,
        *,
        figures: Mapping[str, str],
        numbers: Mapping[str, str],
        metrics: Mapping[str, str] | None = None,
        tokens: Sequence[int] | None = None,
        advice: str | None = None,
    ) -> None:
        self._folder, self._observer, self._stop = folder, observer, stop
        self._shown, self._numbers, self._metrics = figures, numbers, metrics
        self._tokens, self._advice = tokens, advice
        self._figures: dict[str, float] = {}
        self._first_step, self._started = 0, math.nan

    def on_train_begin(self, _args: object, state: TrainerState, _control: TrainerControl, **_: object) -> None:
        """Write the metrics of earlier sessions up to the checkpoint."""
        self._first_step = state.global_step
        if self._folder is not None:
            write_atomically(self._folder / METRICS, b"".join(map(self._to_line, state.log_history)))
        self._tell(state)

    def on_epoch_begin(self, _args: object, state: TrainerState, _control: TrainerControl, **_: object) -> None:
        """Start the clock: an evaluation before the first step does not count for the pace."""
        if math.isnan(self._started):
            self._first_step, self._started = state.global_step, time.monotonic()

    def on_step_end(self, _args: object, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Report a step, and stop after it when asked to."""
        # Processes are interrupted one after the other, and have to stop after the same step.
        if any(gather_object([self._stop.requested])) and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
        self._tell(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: object) -> None:
        """Write the metrics, and stop before a checkpoint of the step where a figure is not a number."""
        newest = state.log_history[-1]
        for name, what in self._numbers.items():
            if name == "grad_norm" and args.fp16:
                continue  # with float16 the trainer skips steps whose gradient is too large
            value = newest.get(name)
            if isinstance(value, float) and not math.isfinite(value):
                raise RunStoppedError(f"the {what} of step {state.global_step} is not a number", hint=self._advice)
        self._figures |= {shown: newest[name] for name, shown in self._shown.items() if newest.get(name) is not None}
        if self._folder is not None:
            path = self._folder / METRICS
            try:
                with path.open("ab") as file:
                    file.write(self._to_line(newest))
            except OSError as error:
                raise storage_error(path, error) from error
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        done = self._work(state.global_step) - self._work(self._first_step)
        pace = left = None
        if done > 0:
            pace = done / (time.monotonic() - self._started)
            left = (self._work(state.max_steps) - self._work(state.global_step)) / pace
        speed = {"tokens/s": pace} if pace is not None and self._tokens is not None else {}
        self._observer.advanced(Progress(state.global_step, state.max_steps, {**speed, **self._figures}, left))

    def _work(self, step: int) -> int:
        return step if self._tokens is None else self._tokens[min(step, len(self._tokens) - 1)]

    def _to_line(self, entry: Mapping[str, Any]) -> bytes:
        if self._metrics is not None:
            known = {ours: entry[name] for name, ours in self._metrics.items() if name in entry}
            if not known:
                return b""
            entry = {"step": entry["step"], **known}
        return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)


class RandomState:
    """What Python, numpy and torch would draw next."""

    def __init__(self) -> None:
        self._python: Any = random.getstate()
        self._numpy: Any = np.random.get_state()
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def restore(self) -> None:
        """Put the generators back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


@contextmanager
def drawing_apart(seed: int) -> Iterator[None]:
    """Draw from generators with this seed while the block runs, and restore the former ones."""
    before = RandomState()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        before.restore()
