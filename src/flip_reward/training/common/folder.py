"""The folder of a training: `manifest.json`, and the checkpoints from which it resumes.

Folders of earlier versions resume: their settings are read under the names of today.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.data.files import write_atomically
from flip_reward.errors import RunError, RunMismatchError
from flip_reward.rewards.options import Settings
from flip_reward.scoring.folders import MANIFEST, how_to_go_on
from flip_reward.scoring.manifest import RunConfiguration, Session

CHECKPOINTS = "checkpoints"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_WHOLE = "whole"
_LIBRARIES = ("torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets")


class ManifestPart(BaseModel):
    """A part of a manifest, or all of it: nothing unknown, nothing changed later."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingManifest(ManifestPart):
    """The content of `manifest.json`, whatever is trained."""

    subject: ClassVar[str]
    """What the folder holds, for errors."""

    format: Literal[1] = 1
    """The layout of the folder."""
    kind: str
    configuration: RunConfiguration
    """What the result depends on. A folder is resumed only with the same one."""
    sessions: list[Session]
    outcome: ManifestPart | None = None
    """None until it is finished."""

    @classmethod
    def upgrade(cls, settings: Settings) -> Settings:
        """Return the settings of an earlier version under the names of today."""
        return settings

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the manifest of a folder; None where there is none yet."""
        path = folder / MANIFEST
        try:
            manifest = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            hint = "; ".join(filter(None, [how_to_go_on(folder), "give another folder with --output"]))
            raise RunError(f"{path} cannot be read as the manifest of {cls.subject}", hint=hint) from error
        settings = dict(cls.upgrade(manifest.configuration.settings))
        configuration = manifest.configuration.model_copy(update={"settings": settings})
        return manifest.model_copy(update={"configuration": configuration})

    @classmethod
    def read_for(cls, folder: Path, configuration: RunConfiguration) -> Self | None:
        """Read the manifest of a folder where a configuration resumes; None where it begins.

        Without a checkpoint nothing was learned yet, and another recipe may begin in the folder.
        """
        manifest = cls.read(folder)
        if manifest is None:
            return None
        differences = manifest.configuration.differences(configuration)
        if not differences:
            return manifest
        if manifest.outcome is None and find_last(folder / CHECKPOINTS) is None:
            return None
        raise RunMismatchError(
            f"the folder holds {cls.subject} of another recipe:\n  " + "\n  ".join(differences),
            hint="give another folder with --output, or the same recipe",
        )

    def write(self, folder: Path) -> None:
        """Write the manifest, whole or not at all."""
        write_atomically(folder / MANIFEST, self.model_dump_json(indent=2).encode() + b"\n")


class GrpoOutcome(ManifestPart):
    """The result of GRPO. Rewards are means over samples; held-out ones over the scored responses."""

    steps: int
    held_out_reward_before: float | None
    """Before the first step; None without an evaluation then."""
    held_out_reward: float | None
    """After the last step; None without an evaluation then."""


class OnAlarm(StrEnum):
    """What happens when the trained reward rises away from the others, and something explains it."""

    WARN = "warn"
    """The training goes on."""
    PAUSE = "pause"
    """It writes a checkpoint and ends; the same command goes on."""
    STOP = "stop"
    """It writes a checkpoint and ends; the same command goes on only with another value of this key."""


class AlarmEnd(ManifestPart):
    """The alarm that ended a session."""

    action: OnAlarm
    step: int
    message: str


class GrpoManifest(TrainingManifest):
    """The manifest of a policy. It stands in every checkpoint too."""

    subject: ClassVar[str] = "a training"

    kind: Literal["grpo"] = "grpo"
    recipe: dict[str, object]
    """The whole recipe, with every default, without passwords and keys."""
    grpo: dict[str, object]
    """The whole GRPOConfig, with every default of the installed version."""
    rows: int
    held_out_rows: int
    rows_sha256: str
    ended_by: AlarmEnd | None = None
    """The alarm that ended the last session, where one did."""
    outcome: GrpoOutcome | None = None

    def is_stopped(self, on_alarm: OnAlarm) -> bool:
        """Whether an alarm stopped it, and the recipe still says that alarms do."""
        return on_alarm is OnAlarm.STOP and self.ended_by is not None and self.ended_by.action is OnAlarm.STOP


class SourceSummary(ManifestPart):
    """How the rows of one source were used."""

    name: str
    rows: int
    removed: dict[str, int]
    """How many were left out, by reason."""
    held_out: int
    kept: int
    seen_in_an_epoch: int


class TuningOutcome(ManifestPart):
    """The result of a tuning. Losses are nats a token; those of held-out rows are means over batches."""

    steps: int
    train_loss: float | None
    """Of the last steps that were logged together."""
    held_out_loss_before: float | None
    held_out_loss: float | None


TUNING_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "epochs": "sft.num_train_epochs",
        "max_steps": "sft.max_steps",
        "batch_rows": "sft.per_device_train_batch_size",
        "accumulate": "sft.gradient_accumulation_steps",
        "learning_rate": "sft.learning_rate",
        "schedule": "sft.lr_scheduler_type",
        "warmup": "sft.warmup_steps",
        "weight_decay": "sft.weight_decay",
        "max_gradient_norm": "sft.max_grad_norm",
        "precision": "sft.bf16",
        "device": "sft.use_cpu",
        "gradient_checkpointing": "sft.gradient_checkpointing",
        "checkpoint_every": "sft.save_steps",
        "evaluate_every": "sft.eval_steps",
        "log_every": "sft.logging_steps",
        "frame": "template",
        "frame_dir": "template_dir",
    }
)
"""Keys of tuning recipes, and of the settings of tuned models, before the section `sft` and after."""

_NOT_LEARNED_FROM = ("checkpoint_every", "evaluate_every", "log_every")


class TuningManifest(TrainingManifest):
    """The manifest of a tuned model."""

    subject: ClassVar[str] = "a tuned model"

    kind: Literal["inferrer"] = "inferrer"
    sources: list[SourceSummary]
    evaluated_prompts: int
    """How many prompts of evaluations were kept out."""
    tokens_in_an_epoch: int
    outcome: TuningOutcome | None = None

    @classmethod
    def upgrade(cls, settings: Settings) -> Settings:
        """Read settings from before the section `sft`."""
        if "batch_rows" not in settings:
            return settings
        meant: dict[str, str | int | float | bool | None] = {
            **settings,
            "max_steps": settings.get("max_steps") or -1,
            "precision": settings.get("precision") == "bfloat16",
            "device": settings.get("device") == "cpu",
        }
        renamed = {**TUNING_KEYS, "frame_sha256": "template_sha256"}
        return {renamed.get(name, name): meant[name] for name in meant if name not in _NOT_LEARNED_FROM}


def describe_session() -> Session:
    """Describe this process, with the libraries that matter to training."""
    return Session.now(*_LIBRARIES)


def mark_whole(checkpoint: Path) -> None:
    """Mark a checkpoint as completely written."""
    (checkpoint / _WHOLE).touch()


def drop_partial(folder: Path) -> None:
    """Remove checkpoints that were being written when their process ended."""
    for checkpoint in _list(folder):
        if not (checkpoint / _WHOLE).is_file():
            shutil.rmtree(checkpoint, ignore_errors=True)


def drop_oldest(folder: Path, keep: int, *, best: Path | None = None) -> None:
    """Remove all but `keep` checkpoints: the last one, the best one, and the newest of the others stay."""
    newest_first = sorted(_list(folder), key=step_of, reverse=True)
    needed = [checkpoint for checkpoint in newest_first if checkpoint in (newest_first[0], best)]
    others = [checkpoint for checkpoint in newest_first if checkpoint not in needed]
    for checkpoint in others[max(0, keep - len(needed)) :]:
        with suppress(OSError):  # first, so that nothing partial counts after a kill
            (checkpoint / _WHOLE).unlink(missing_ok=True)
        shutil.rmtree(checkpoint, ignore_errors=True)


def find_last(folder: Path) -> Path | None:
    """Return the last whole checkpoint."""
    whole = [checkpoint for checkpoint in _list(folder) if (checkpoint / _WHOLE).is_file()]
    return max(whole, key=step_of, default=None)


def _list(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if entry.is_dir() and _CHECKPOINT.fullmatch(entry.name)]


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint was written after."""
    found = _CHECKPOINT.fullmatch(checkpoint.name)
    return int(found.group(1)) if found else -1
