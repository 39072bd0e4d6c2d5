"""What the folder of a training holds.

FOLDER/manifest.json                          the recipe, as `flip-reward train` wrote it
FOLDER/metrics.jsonl                          the metrics of each step that was logged
FOLDER/samples/SPLIT/step-000001.parquet      prompts, responses and rewards of a step
FOLDER/alarms.jsonl                           see `audit.monitor.alarms`
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import orjson
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json

from flip_reward.errors import MissingDependencyError, RunError
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.manifest import Session

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

METRICS, SAMPLES = "metrics.jsonl", "samples"
# The second names are those in folders of earlier versions.
OVERLAP, _OVERLAP_BEFORE = "instruction_4gram_overlap", "copied_4grams"
HELD_OUT, _HELD_OUT_BEFORE = "held_out_rewards", "not_trained_on"
_HINT = "the folder is written by 'flip-reward train'"


class Split(StrEnum):
    """What a sample is for."""

    TRAIN = "train"
    HELD_OUT = "held-out"

    @property
    def other(self) -> Split:
        """The other one of the two."""
        return Split.HELD_OUT if self is Split.TRAIN else Split.TRAIN


class TrainingSample(BaseModel):
    """A response and its reward."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    row: int
    prompt: str
    response: str
    reward: float | None
    outcome: str
    inferred_instruction: str | None
    instruction_4gram_overlap: float | None = Field(validation_alias=AliasChoices(OVERLAP, _OVERLAP_BEFORE))
    others: Json[dict[str, float | None]] = Field(validation_alias=AliasChoices(HELD_OUT, _HELD_OUT_BEFORE))
    """Rewards that only score held-out prompts, by name."""


class RecordedTraining(BaseModel):
    """The recipe of a training, and the sessions in which it ran."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recipe: dict[str, object]
    sessions: list[Session] = []


def is_training(folder: Path) -> bool:
    """Whether a folder was written by `flip-reward train`."""
    try:
        return bool(orjson.loads((folder / MANIFEST).read_bytes()).get("kind") == "grpo")
    except (OSError, ValueError, AttributeError):
        return False


def read_recorded(folder: Path) -> RecordedTraining:
    """Read what the manifest says of a training."""
    try:
        return RecordedTraining.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / MANIFEST} cannot be read", hint=_HINT) from error


def read_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read each metric as steps and values. Where a step was logged twice, the last one counts."""
    found: dict[str, dict[int, float]] = {}
    try:
        for line in (folder / METRICS).read_bytes().splitlines():
            entry = orjson.loads(line)
            for name, value in entry.items():
                if isinstance(value, int | float) and name != "step" and math.isfinite(value):
                    known = name.replace(_OVERLAP_BEFORE, OVERLAP).replace(_HELD_OUT_BEFORE, HELD_OUT)
                    found.setdefault(known, {})[entry["step"]] = float(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder / METRICS} cannot be read", hint=_HINT) from error
    return {name: sorted(points.items()) for name, points in found.items()}


def list_steps(folder: Path, split: Split) -> list[int]:
    """Return the steps that have samples, in order."""
    names = {path.name.partition(".")[0] for path in (folder / SAMPLES / split).glob("step-*.parquet")}
    return sorted(int(name.removeprefix("step-")) for name in names)


def count_samples(folder: Path, split: Split) -> dict[int, int]:
    """Return how many samples each step has, in order; a MissingDependencyError without pyarrow."""
    steps = list_steps(folder, split)
    return {step: sum(_read_files(folder, split, step, lambda file: file.metadata.num_rows)) for step in steps}


def read_samples(folder: Path, split: Split, step: int) -> list[TrainingSample]:
    """Read the samples of a step, of all processes; a MissingDependencyError without pyarrow."""
    return [sample for samples in _read_files(folder, split, step, _read_rows) for sample in samples]


T = TypeVar("T")


def _read_files(folder: Path, split: Split, step: int, read: Callable[[ParquetFile], T]) -> list[T]:
    """Read each of the files of a step, one of each process."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None
    found = []
    for path in sorted((folder / SAMPLES / split).glob(f"step-{step:06d}.*parquet")):
        try:
            with pq.ParquetFile(path) as file:
                found.append(read(file))
        except (OSError, pa.ArrowException, ValueError) as error:
            raise RunError(f"{path} cannot be read", hint=_HINT) from error
    return found


def _read_rows(file: ParquetFile) -> list[TrainingSample]:
    return [TrainingSample.model_validate(row) for row in file.read().to_pylist()]
