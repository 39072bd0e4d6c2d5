"""`rollouts.json` and `samples.jsonl`: what watching a trainer's logs has found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import orjson
from pydantic import Field

from flip_reward.audit.monitor.rollout import Alarm, Rollout
from flip_reward.data.files import atomic_file, storage_error, write_atomically
from flip_reward.errors import OptionError, RunError
from flip_reward.evaluation.results import ResultModel
from flip_reward.scoring.folders import ROLLOUT_SAMPLES, ROLLOUTS

FORMAT = 1


class StepFigures(ResultModel):
    """What is known of a step."""

    step: int
    samples: int
    without_reward: int
    """Those among them whose reward is missing, NaN or infinite."""
    figures: dict[str, float]
    """By name, without those that are not defined."""
    others: dict[str, float] = Field(default={})
    """The means of the rewards that are not trained on, by name."""


class LogColumns(ResultModel):
    """Where things were found in a log."""

    source: str
    step: str | None
    """None where it stands in the names of the files."""
    prompt: str | None
    response: str | None
    reward: list[str]
    others: list[str]


class RolloutAudit(ResultModel):
    """What watching rollouts has found."""

    format: int = FORMAT
    logs: list[LogColumns]
    verdict: str
    """In a sentence."""
    onset: int | None
    """The step at which the first divergence began; None without an alarm."""
    mechanism: str | None
    """The figure that explains it."""
    samples: int
    without_reward: int
    not_trained_on: list[str]
    """Rewards that were logged and not trained on."""
    rejected: int
    """Rows that could not be read."""
    reasons: list[str] = Field(default=[])
    """Of the first of them."""
    alarms: list[Alarm]
    steps: list[StepFigures]


def check_folder(folder: Path) -> None:
    """Make sure that results may be written to a folder: it is new, empty, or holds such results."""
    try:
        names = [one.name for one in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise OptionError(f"{folder} cannot be used as a folder: {error.strerror or error}") from error
    if names and ROLLOUTS not in names:
        raise OptionError(f"{folder} holds something else", hint="name a new folder with --run-folder")


def write_rollouts(folder: Path, audit: RolloutAudit, samples: Iterable[Rollout]) -> None:
    """Write the results, and the samples to look at, a line each."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    with atomic_file(folder / ROLLOUT_SAMPLES) as file:
        file.writelines(orjson.dumps(asdict(one)) + b"\n" for one in samples)
    write_atomically(folder / ROLLOUTS, audit.model_dump_json(indent=2).encode() + b"\n")


def read_rollouts(folder: Path) -> RolloutAudit:
    """Read the results in a folder."""
    path = folder / ROLLOUTS
    try:
        return RolloutAudit.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read", hint="'flip-reward audit --rollouts' writes it") from error


def read_kept_samples(folder: Path) -> Iterator[Rollout]:
    """Read the samples that were kept."""
    path = folder / ROLLOUT_SAMPLES
    try:
        with path.open("rb") as file:
            for line in file:
                yield Rollout(**orjson.loads(line))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read", hint="'flip-reward audit --rollouts' writes it") from error
