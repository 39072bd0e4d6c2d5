"""A folder of `flip-reward train` -> one HTML page: curves, and samples from before and after."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from statistics import fmean

from flip_reward.data.files import write_atomically
from flip_reward.errors import OptionError, RunError
from flip_reward.report.curves import Curve, draw_curves
from flip_reward.report.evaluation_files import REPORT
from flip_reward.report.training_files import (
    SAMPLES,
    TrainingSample,
    list_steps,
    read_metrics,
    read_recipe_of,
    read_samples,
)

_PROMPTS_SHOWN = 40
_CHARACTERS_SHOWN = 2500
_STEPS_NAMED = 20
HELD_OUT, TRAIN = "held-out", "train"


def build_training_page(folder: Path, *, split: str | None = None, step: int | None = None) -> Path:
    """Write `report.html` into the folder of a training.

    Args:
        folder: What `flip-reward train` wrote; the training need not be finished.
        split: Show "held-out" prompts or those of "train"; by default held-out ones, where there are any.
        step: Show the samples of this step beside those of the first; by default of the last one.

    Returns:
        The file.

    Raises:
        OptionError: There are no samples of this split or step.
        RunError: It is no such folder, or it is damaged.
        StorageError: The file cannot be written.
    """
    metrics = read_metrics(folder)
    split = split or (HELD_OUT if list_steps(folder, HELD_OUT) else TRAIN)
    first, last = _choose_steps(folder, split, step)
    before, after = read_samples(folder, split, first), read_samples(folder, split, last)
    recipe = read_recipe_of(folder)
    values = {
        "title": escape(folder.resolve().name),
        "model": escape(str(recipe.get("model", ""))),
        "curves": _draw(metrics),
        "changes": _tabulate(before, after),
        "split": "Held-out prompts" if split == HELD_OUT else "Prompts that were learned from",
        "first": f"{first:,}",
        "last": f"{last:,}",
        "samples": "".join(_show(before, after, paired=split == HELD_OUT)),
        "recipe": escape(_list_keys(recipe)),
    }
    template = (files("flip_reward.report") / "page" / "training.html").read_text(encoding="utf-8")
    path = folder / REPORT
    write_atomically(path, re.sub(r"\{\{ (\w+) \}\}", partial(_value, values), template).encode())
    return path


def _choose_steps(folder: Path, split: str, step: int | None) -> tuple[int, int]:
    """The first step, and the one that is shown beside it."""
    steps = list_steps(folder, split)
    if not steps:
        other = TRAIN if split == HELD_OUT else HELD_OUT
        if list_steps(folder, other):
            raise OptionError(f"{folder} has no {split} samples", hint=f"show the others with --split {other}")
        raise RunError(f"{folder / SAMPLES} has no samples yet", hint="they are written after the first step")
    if step is not None and step not in steps:
        shown = [*map(str, steps)] if len(steps) <= _STEPS_NAMED else [*map(str, steps[:3]), "...", str(steps[-1])]
        raise OptionError(f"{folder} has no {split} samples of step {step}", hint=f"there are {', '.join(shown)}")
    return steps[0], steps[-1] if step is None else step


def _draw(metrics: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    def ending(text: str, *, held_out: bool = False) -> list[Curve]:
        found = [name for name in metrics if name.endswith(text) and name.startswith("eval_") == held_out]
        return [Curve(name.removeprefix("eval_").removesuffix(text), metrics[name]) for name in found]

    pictures = [
        draw_curves(
            "Reward",
            [Curve("training", metrics.get("reward", [])), Curve("held out", metrics.get("eval_reward", []))],
        )
    ]
    for name in metrics:
        if name.startswith("eval_not_trained_on/"):
            other = name.removeprefix("eval_not_trained_on/")
            pictures.append(draw_curves(f"Held out, not trained on: {other}", [Curve(other, metrics[name])]))
    for text, title in (
        ("/copied_4grams", "Share of the instruction's 4-grams copied into the response"),
        ("/length_correlation", "Rank correlation of reward and length within groups"),
        ("/zero_variance", "Share of groups without variance"),
        ("/outcomes/scored", "Share of samples that were scored"),
        ("/seconds", "Seconds waited for the reward"),
    ):
        pictures.append(draw_curves(title, ending(text)))
    length = metrics.get("completions/mean_length", [])
    pictures.append(draw_curves("Mean length of completions, in tokens", [Curve("length", length)]))
    pictures.append(draw_curves("Loss", [Curve("loss", metrics.get("loss", []))]))
    return "".join(pictures)


def _tabulate(before: Sequence[TrainingSample], after: Sequence[TrainingSample]) -> str:
    others = dict.fromkeys(name for sample in (*before, *after) for name in sample.others)
    rows = [("reward", _mean(one.reward for one in before), _mean(one.reward for one in after))]
    for name in others:
        means = [_mean(one.others.get(name) for one in part) for part in (before, after)]
        rows.append((f"{name}, not trained on", means[0], means[1]))
    rows.append(
        ("4-grams copied", _mean(one.copied_4grams for one in before), _mean(one.copied_4grams for one in after))
    )
    cells = (f"<tr><th>{escape(name)}</th><td>{_number(a)}</td><td>{_number(b)}</td></tr>" for name, a, b in rows)
    return "".join(cells)


def _show(before: Sequence[TrainingSample], after: Sequence[TrainingSample], *, paired: bool) -> Iterable[str]:
    """Show prompts: with the responses of both steps where they are the same ones, else one after the other."""
    first, last = ({sample.row: sample for sample in reversed(part)} for part in (before, after))
    rows = [row for row in first if row in last] if paired else [*first, *(row for row in last if row not in first)]
    for row in sorted(rows)[:_PROMPTS_SHOWN]:
        known = first.get(row) or last[row]
        yield (
            f"<article><h3>{_text(known.prompt)}</h3><div class='pair'>"
            f"{_show_one('before', first.get(row))}{_show_one('after', last.get(row))}</div></article>"
        )


def _show_one(when: str, sample: TrainingSample | None) -> str:
    if sample is None:
        return f"<section><h4>{when}</h4><p class='none'>not asked in this step</p></section>"
    earned = _number(sample.reward) if sample.reward is not None else sample.outcome.replace("_", " ")
    others = "".join(f", {name} {_number(value)}" for name, value in sample.others.items())
    inferred = sample.inferred_instruction
    return (
        f"<section><h4>{when}: {escape(earned + others)}</h4><p>{_text(sample.response)}</p>"
        + (f"<p class='inferred'>{_text(inferred)}</p>" if inferred is not None else "")
        + "</section>"
    )


def _text(text: str) -> str:
    cut = f" ... ({len(text) - _CHARACTERS_SHOWN:,} more characters)" if len(text) > _CHARACTERS_SHOWN else ""
    return escape(text[:_CHARACTERS_SHOWN] + cut)


def _list_keys(values: Mapping[str, object], place: str = "") -> str:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            lines.append(_list_keys(value, f"{place}{key}."))
        elif value not in (None, {}, []):
            lines.append(f"{place}{key}: {value}")
    return "\n".join(line for line in lines if line)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _value(values: Mapping[str, str], place: re.Match[str]) -> str:
    return values[place[1]]
