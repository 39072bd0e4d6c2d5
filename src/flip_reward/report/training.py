"""The folder of a training -> one HTML page: curves as SVG, and samples from before and after.

FOLDER/manifest.json                          the recipe, as `flip-reward train` wrote it
FOLDER/metrics.jsonl                          the metrics of each step that was logged
FOLDER/samples/SPLIT/step-000001.parquet      prompts, responses and rewards of a step
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from importlib.resources import files
from pathlib import Path
from statistics import fmean

import orjson
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json

from flip_reward.data.files import write_atomically
from flip_reward.errors import MissingDependencyError, OptionError, RunError
from flip_reward.report import REPORT
from flip_reward.scoring.folders import MANIFEST

METRICS, SAMPLES = "metrics.jsonl", "samples"
# The second names are those in folders of earlier versions.
_OVERLAP, _OVERLAP_BEFORE = "instruction_4gram_overlap", "copied_4grams"
_HELD_OUT, _HELD_OUT_BEFORE = "held_out_rewards", "not_trained_on"
_PROMPTS_SHOWN = 40
_CHARACTERS_SHOWN = 2500
_STEPS_NAMED = 20
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
    instruction_4gram_overlap: float | None = Field(validation_alias=AliasChoices(_OVERLAP, _OVERLAP_BEFORE))
    others: Json[dict[str, float | None]] = Field(validation_alias=AliasChoices(_HELD_OUT, _HELD_OUT_BEFORE))
    """Rewards that only score held-out prompts, by name."""


def is_training(folder: Path) -> bool:
    """Whether a folder was written by `flip-reward train`."""
    try:
        return bool(orjson.loads((folder / MANIFEST).read_bytes()).get("kind") == "grpo")
    except (OSError, ValueError, AttributeError):
        return False


def read_recipe_of(folder: Path) -> Mapping[str, object]:
    """Read the recipe of a training."""
    try:
        recipe: Mapping[str, object] = orjson.loads((folder / MANIFEST).read_bytes())["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / MANIFEST} cannot be read", hint=_HINT) from error
    return recipe


def read_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read each metric as steps and values. Where a step was logged twice, the last one counts."""
    found: dict[str, dict[int, float]] = {}
    try:
        for line in (folder / METRICS).read_bytes().splitlines():
            entry = orjson.loads(line)
            for name, value in entry.items():
                if isinstance(value, int | float) and name != "step":
                    known = name.replace(_OVERLAP_BEFORE, _OVERLAP).replace(_HELD_OUT_BEFORE, _HELD_OUT)
                    found.setdefault(known, {})[entry["step"]] = float(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder / METRICS} cannot be read", hint=_HINT) from error
    return {name: sorted(points.items()) for name, points in found.items()}


def list_steps(folder: Path, split: Split) -> list[int]:
    """Return the steps that have samples, in order."""
    names = {path.name.partition(".")[0] for path in (folder / SAMPLES / split).glob("step-*.parquet")}
    return sorted(int(name.removeprefix("step-")) for name in names)


def read_samples(folder: Path, split: Split, step: int) -> list[TrainingSample]:
    """Read the samples of a step, of all processes; a MissingDependencyError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError("pyarrow", extra="parquet") from None
    samples: list[TrainingSample] = []
    for path in sorted((folder / SAMPLES / split).glob(f"step-{step:06d}*.parquet")):
        try:
            samples += [TrainingSample.model_validate(row) for row in pq.read_table(path).to_pylist()]
        except (OSError, pa.ArrowException, ValueError) as error:
            raise RunError(f"{path} cannot be read", hint=_HINT) from error
    return samples


def build_training_page(folder: Path, *, split: Split | None = None, step: int | None = None) -> Path:
    """Write `report.html` into the folder of a training, which need not be finished, and return its path.

    By default the samples of held-out prompts are shown, where there are any, from the first and the last step.
    """
    metrics = read_metrics(folder)
    split = split or (Split.HELD_OUT if list_steps(folder, Split.HELD_OUT) else Split.TRAIN)
    first, last = _choose_steps(folder, split, step)
    before, after = read_samples(folder, split, first), read_samples(folder, split, last)
    recipe = read_recipe_of(folder)
    values = {
        "title": escape(folder.resolve().name),
        "model": escape(str(recipe.get("model", ""))),
        "curves": _draw(metrics),
        "changes": _tabulate(before, after),
        "split": "Held-out prompts" if split is Split.HELD_OUT else "Prompts that were learned from",
        "first": f"{first:,}",
        "last": f"{last:,}",
        "samples": "".join(_show(before, after, paired=split is Split.HELD_OUT)),
        "recipe": escape(_list_keys(recipe)),
    }
    template = (files("flip_reward.report") / "page" / "training.html").read_text(encoding="utf-8")
    path = folder / REPORT
    write_atomically(path, re.sub(r"\{\{ (\w+) \}\}", lambda found: values[found[1]], template).encode())
    return path


def _choose_steps(folder: Path, split: Split, step: int | None) -> tuple[int, int]:
    """The first step, and the one that is shown beside it."""
    steps = list_steps(folder, split)
    if not steps:
        if list_steps(folder, split.other):
            raise OptionError(f"{folder} has no {split} samples", hint=f"show the others with --split {split.other}")
        raise RunError(f"{folder / SAMPLES} has no samples yet", hint="they are written after the first step")
    if step is not None and step not in steps:
        shown = [*map(str, steps)] if len(steps) <= _STEPS_NAMED else [*map(str, steps[:3]), "...", str(steps[-1])]
        raise OptionError(f"{folder} has no {split} samples of step {step}", hint=f"its steps are {', '.join(shown)}")
    return steps[0], steps[-1] if step is None else step


def _draw(metrics: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    trained, held_out = (
        Curve("training", metrics.get("reward", [])),
        Curve("held out", metrics.get("eval_reward", [])),
    )
    figures = [draw_curves("Reward", [trained, held_out])]
    for name, points in metrics.items():
        if name.startswith(f"eval_{_HELD_OUT}/"):
            other = name.removeprefix(f"eval_{_HELD_OUT}/")
            figures.append(draw_curves(f"Held out, not trained on: {other}", [Curve(other, points)]))
    for ending, title in (
        (f"/{_OVERLAP}", "Share of the instruction's 4-grams copied into the response"),
        ("/length_correlation", "Rank correlation of reward and length within groups"),
        ("/zero_variance", "Share of groups without variance"),
        ("/outcomes/scored", "Share of samples that were scored"),
        ("/seconds", "Seconds waited for the reward"),
    ):
        names = [name for name in metrics if name.endswith(ending) and not name.startswith("eval_")]
        figures.append(draw_curves(title, [Curve(name.removesuffix(ending), metrics[name]) for name in names]))
    length = Curve("length", metrics.get("completions/mean_length", []))
    figures.append(draw_curves("Mean length of completions, in tokens", [length]))
    figures.append(draw_curves("Loss", [Curve("loss", metrics.get("loss", []))]))
    return "".join(figures)


def _tabulate(before: Sequence[TrainingSample], after: Sequence[TrainingSample]) -> str:
    rows = [("reward", [_mean(one.reward for one in part) for part in (before, after)])]
    for name in dict.fromkeys(name for sample in (*before, *after) for name in sample.others):
        means = [_mean(one.others.get(name) for one in part) for part in (before, after)]
        rows.append((f"{name}, not trained on", means))
    overlaps = [_mean(one.instruction_4gram_overlap for one in part) for part in (before, after)]
    rows.append(("4-grams copied", overlaps))
    return "".join(
        f"<tr><th>{escape(name)}</th><td>{_number(a)}</td><td>{_number(b)}</td></tr>" for name, (a, b) in rows
    )


def _show(before: Sequence[TrainingSample], after: Sequence[TrainingSample], *, paired: bool) -> Iterable[str]:
    """Show prompts: with the responses of both steps where they are the same ones, else one after the other."""
    first, last = ({sample.row: sample for sample in reversed(part)} for part in (before, after))
    rows = [row for row in first if row in last] if paired else [*first, *(row for row in last if row not in first)]
    for row in sorted(rows)[:_PROMPTS_SHOWN]:
        known = first.get(row) or last[row]
        yield (
            f"<article id='prompt-{row}'><h3>{_text(known.prompt)}</h3><div class='pair'>"
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


_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 420, 170, 46, 22, 10
_COLOURS = ("var(--first)", "var(--second)", "var(--third)")


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure by its name in the legend, as steps and values in the order of the steps."""

    name: str
    points: Sequence[tuple[int, float]]


def draw_curves(title: str, curves: Sequence[Curve]) -> str:
    """Draw up to three curves into one figure in HTML; nothing where none of them has points.

    Example:
        >>> picture = draw_curves("Reward", [Curve("training", [(1, 0.1), (2, 0.3)])])
        >>> picture.count("<polyline"), "Reward" in picture
        (1, True)
        >>> draw_curves("Reward", [Curve("training", [])])
        ''
    """
    drawn = [curve for curve in curves if curve.points][: len(_COLOURS)]
    if not drawn:
        return ""
    steps = [step for curve in drawn for step, _ in curve.points]
    values = [value for curve in drawn for _, value in curve.points]
    first, last, low, high = min(steps), max(steps), min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def place(step: int, value: float) -> str:
        x = _LEFT + (step - first) / max(last - first, 1) * (_WIDTH - _LEFT - 8)
        y = _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)
        return f"{x:.1f},{y:.1f}"

    lines = []
    for colour, curve in zip(_COLOURS, drawn, strict=False):
        points = " ".join(place(step, value) for step, value in curve.points)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(curve.points) < 30:
            for x, y in (place(step, value).split(",") for step, value in curve.points):
                lines.append(f'<circle cx="{x}" cy="{y}" r="2.2" fill="{colour}"/>')
    legend = " ".join(
        f'<span class="key"><i style="background:{colour}"></i>{escape(curve.name)}</span>'
        for colour, curve in zip(_COLOURS, drawn, strict=False)
    )
    bottom = _HEIGHT - _BOTTOM
    return (
        f"<figure><figcaption>{escape(title)} {legend if len(drawn) > 1 else ''}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - 8}" y2="{bottom}" class="axis"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 4}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">step {first}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">{last}</text>'
        f"{''.join(lines)}</svg></figure>"
    )
