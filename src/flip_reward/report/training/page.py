"""The folders of trainings -> one HTML page: curves, alarms, and the samples of all steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flip_reward.audit.monitor.alarms import read_alarms
from flip_reward.data.files import write_atomically
from flip_reward.errors import OptionError, RunError
from flip_reward.report import REPORT
from flip_reward.report.document import MAX_BYTES, PageLayout, write_document
from flip_reward.report.facts import Facts, describe_software, list_facts
from flip_reward.report.training.folder import (
    SAMPLES,
    RecordedTraining,
    Split,
    count_samples,
    list_steps,
    read_metrics,
    read_recorded,
    read_samples,
)
from flip_reward.report.training.payload import (
    PageHead,
    Sample,
    Shown,
    TrainingRead,
    WatchedTraining,
    make_training_data,
)

_SHARED = ("dom", "format", "data", "texts", "charts")
_OWN = ("view", "figures", "sample")
_LAYOUT = PageLayout(
    template="training/template.html",
    scripts=(*_SHARED, *(f"training/{name}" for name in _OWN), "explorer", "page", "training/main"),
    libraries=("d3.min.js", "plot.umd.min.js"),
)
_MOST_SAMPLES = 3000
_FEWEST_SAMPLES = 200
_SHORTEST_TEXT = 360
"""Rather than cut texts further, fewer samples are shown."""
_STEPS_NAMED = 20


def build_training_page(
    *folders: Path, split: Split | None = None, step: int | None = None, max_bytes: int = MAX_BYTES
) -> Path:
    """Write `report.html` into the folder of a training, which need not be finished, and return its path.

    Several folders are trainings that differ in the seed; the page is written into the first. With a split the page
    has only its samples, and it opens with those of a step.
    """
    shown = Shown(split, step)
    for folder in folders:
        _check_shown(folder, shown)
    recorded = [read_recorded(folder) for folder in folders]
    sessions = [session for one in recorded for session in one.sessions]
    head = PageHead(
        title=", ".join([folder.resolve().name for folder in folders]),
        kicker=f"flip-reward training of {recorded[0].recipe.get('model', '')}",
        created=min([session.started_at for session in sessions], default=""),
        made=[*_describe_recipes(recorded), describe_software(sessions)],
    )
    page = write_training_page(head, [_open_training(folder) for folder in folders], shown, max_bytes=max_bytes)
    path = folders[0] / REPORT
    write_atomically(path, page)
    return path


def write_training_page(
    head: PageHead, runs: Sequence[WatchedTraining], shown: Shown, *, max_bytes: int = MAX_BYTES
) -> bytes:
    """Return the page of trainings by any trainer.

    Figures are of all samples. Of more than 3,000, or where the page would be larger than `max_bytes`, some samples
    stand for the others; see `choose_samples`.
    """
    read, most = TrainingRead.of(head, runs, shown), _MOST_SAMPLES
    while True:
        payload, texts = make_training_data(read, most=most)
        last = most <= _FEWEST_SAMPLES
        shortest = 0 if last else _SHORTEST_TEXT
        page = write_document(_LAYOUT, payload.title, payload, texts, max_bytes=max_bytes, shortest=shortest)
        if last or len(page) <= max_bytes:
            return page
        most = max(_FEWEST_SAMPLES, min(most, len(payload.samples)) // 2)


def _check_shown(folder: Path, shown: Shown) -> None:
    """Raise where there is nothing to show, or not what was asked for."""
    steps = {split: list_steps(folder, split) for split in Split}
    if not any(steps.values()):
        raise RunError(f"{folder / SAMPLES} has no samples yet", hint="they are written after the first step")
    if shown.split and not steps[shown.split]:
        other = next(split for split in Split if steps[split])
        raise OptionError(f"{folder} has no {shown.split} samples", hint=f"show the others with --split {other}")
    there = sorted({step for split in Split if shown.split in (None, split) for step in steps[split]})
    if shown.step is not None and shown.step not in there:
        named = [*map(str, there)] if len(there) <= _STEPS_NAMED else [*map(str, there[:3]), "...", str(there[-1])]
        what = f"{shown.split} samples" if shown.split else "samples"
        raise OptionError(f"{folder} has no {what} of step {shown.step}", hint=f"its steps are {', '.join(named)}")


def _open_training(folder: Path) -> WatchedTraining:
    sizes = {(split, step): size for split in Split for step, size in count_samples(folder, split).items()}
    return WatchedTraining(
        folder.resolve().name,
        read_metrics(folder),
        sizes,
        lambda split, step: _read(folder, split, step),
        read_alarms(folder),
    )


def _read(folder: Path, split: Split, step: int) -> list[Sample]:
    return [
        Sample(
            prompt=one.prompt,
            response=one.response,
            reward=one.reward,
            outcome=one.outcome,
            row=one.row,
            inferred=one.inferred_instruction,
            copied=one.instruction_4gram_overlap,
            others=one.others,
        )
        for one in read_samples(folder, split, step)
    ]


def _describe_recipes(recorded: Sequence[RecordedTraining]) -> list[Facts]:
    """Show what the recipes share, and what differs, of each in turn."""
    recipes = [_flatten(one.recipe) for one in recorded]
    shared, differing = {}, {}
    for name in dict.fromkeys([name for recipe in recipes for name in recipe]):
        values = [recipe.get(name) for recipe in recipes]
        if values.count(values[0]) == len(values):
            shared[name] = values[0]
        else:
            differing[name] = ", ".join(map(str, values))
    return [list_facts("Recipe", shared), *([list_facts("Different in each", differing)] if differing else [])]


def _flatten(values: Mapping[str, object], place: str = "") -> dict[str, object]:
    """Name the settings of a recipe by their places in it; those that are not set are left out."""
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= _flatten(value, f"{place}{key}.")
        elif value not in (None, {}, []):
            found[f"{place}{key}"] = value
    return found
