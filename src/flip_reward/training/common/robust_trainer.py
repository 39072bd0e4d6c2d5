"""`RobustCheckpointMixin`: what both trainers do otherwise than TRL.

Checkpoints are whole and of good weights, there is no step too many, and nobody is told.

`RandomState`: every generator that a training draws from, to be put back later.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers import Trainer

from flip_reward.errors import RunStoppedError, StorageError
from flip_reward.training.common.checkpoints import drop_oldest, find_last, mark_whole


class RobustCheckpointMixin(Trainer):  # type: ignore[misc]
    """Stands before one of TRL's trainers among the bases of a trainer."""

    advice: ClassVar[str]
    """What to do where weights are spoilt."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - the signature of the trainer
        super().__init__(*arguments, **named)
        # The trainer would remove older checkpoints before the newest is whole.
        self._keep, self.args.save_total_limit = self.args.save_total_limit, None

    def _run_epoch(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the signature of the trainer
        # The trainer looks for the end after a step. One that was killed behind its last step would take another.
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
        """Write what a checkpoint holds besides that of TRL."""

    def _check_weights(self) -> None:
        """Keep weights that are spoilt from being written: their loss may not have been logged.

        Raises:
            RunStoppedError: One that is trained is not a number, in any of the processes.
        """
        good = all(_is_finite(weight) for weight in self.model.parameters() if weight.requires_grad)
        if not all(gather_object([good])):
            raise RunStoppedError(f"after step {self.state.global_step} weights are not numbers", hint=self.advice)

    @contextmanager
    def _writing(self, what: str, folder: Path) -> Iterator[None]:
        """Leave no folder that is half written, and say from where the same command goes on."""
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
        """Say nothing to anybody about what a user trains."""

    def create_model_card(self, *_: object, **__: object) -> None:
        """Write no card, which would name folders of this machine."""


def _is_finite(weight: torch.nn.Parameter) -> bool:
    """Whether all numbers that this process holds of a weight are finite."""
    part: Any = getattr(weight, "ds_tensor", weight)  # where DeepSpeed keeps it
    if hasattr(part, "to_local"):  # FSDP
        part = part.to_local()
    return bool(torch.isfinite(part).all())


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
    """Draw from generators with this seed while the block runs, and then go on as if it had not been."""
    before = RandomState()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        before.restore()
