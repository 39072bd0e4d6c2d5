"""What a report reads of a folder of `flip-reward train`: metrics by step, and samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.errors import MissingDependencyError, RunError

MANIFEST, METRICS, SAMPLES = "manifest.json", "metrics.jsonl", "samples"
_HINT = "the folder is written by 'flip-reward train'"


class TrainingSample(BaseModel):
    """A response and what it earned."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    row: int
    prompt: str
    response: str
    reward: float | None
    outcome: str
    inferred_instruction: str | None
    copied_4grams: float | None
    not_trained_on: str

    @property
    def others(self) -> dict[str, float | None]:
        """Rewards that were not trained on, by name."""
        found: dict[str, float | None] = orjson.loads(self.not_trained_on)
        return found


def is_training(folder: Path) -> bool:
    """Whether a folder was written by `flip-reward train`."""
    try:
        return bool(orjson.loads((folder / MANIFEST).read_bytes()).get("kind") == "grpo")
    except (OSError, ValueError, AttributeError):
        return False


def read_recipe_of(folder: Path) -> Mapping[str, object]:
    """Read the whole recipe of a training.

    Raises:
        RunError: The manifest cannot be read.
    """
    try:
        recipe: Mapping[str, object] = orjson.loads((folder / MANIFEST).read_bytes())["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / MANIFEST} cannot be read", hint=_HINT) from error
    return recipe


def read_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read each metric as steps and values. Where a step was logged twice, the last one counts.

    Raises:
        RunError: There are none, or a line is damaged.
    """
    found: dict[str, dict[int, float]] = {}
    try:
        for line in (folder / METRICS).read_bytes().splitlines():
            entry = orjson.loads(line)
            for name, value in entry.items():
                if isinstance(value, int | float) and name != "step":
                    found.setdefault(name, {})[entry["step"]] = float(value)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder / METRICS} cannot be read", hint=_HINT) from error
    return {name: sorted(points.items()) for name, points in found.items()}


def list_steps(folder: Path, split: str) -> list[int]:
    """Return the steps of which there are samples, in order."""
    names = {path.name.partition(".")[0] for path in (folder / SAMPLES / split).glob("step-*.parquet")}
    return sorted(int(name.removeprefix("step-")) for name in names)


def read_samples(folder: Path, split: str, step: int) -> list[TrainingSample]:
    """Read the samples of a step, of all processes.

    Raises:
        RunError: A file is damaged.
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None
    samples: list[TrainingSample] = []
    for path in sorted((folder / SAMPLES / split).glob(f"step-{step:06d}*.parquet")):
        try:
            samples += [TrainingSample.model_validate(row) for row in pq.read_table(path).to_pylist()]
        except (OSError, pa.ArrowInvalid, ValidationError) as error:
            raise RunError(f"{path} cannot be read", hint=_HINT) from error
    return samples
