"""Eval deltas: what trainings changed on held-out prompts, prompt by prompt, over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from flip_reward.errors import RunError
from flip_reward.evaluation.statistics import Estimate, Quantity, check_libraries, estimate_mean
from flip_reward.report.training.folder import Split, TrainingSample, list_steps, read_samples


@dataclass(frozen=True, slots=True)
class EvalDelta:
    """How a figure of held-out prompts changed."""

    name: str
    """The figure: "reward", the name of a held-out reward, or a property of the responses."""
    before: float | None
    after: float | None
    change: Estimate | None
    """The mean change of a prompt, with the 95 % interval over prompts, each with all its seeds. All three are None
    where no prompt has the figure at both times."""


def measure_eval_deltas(folders: Sequence[Path], *, step: int | None = None) -> list[EvalDelta]:
    """Compare held-out responses from before the first step with those after `step`, by default the last.

    The folders are trainings that differ only in the seed. A prompt counts where it has the figure at both times; its
    responses are averaged first.
    """
    check_libraries()
    pairs: dict[str, list[tuple[str, int, float, float]]] = {}
    for number, folder in enumerate(folders):
        steps = list_steps(folder, Split.HELD_OUT)
        if len(steps) < 2:
            raise RunError(f"{folder} has no held-out samples from before and after")
        if step is not None and step not in steps[1:]:
            there = ", ".join(map(str, steps[1:]))
            raise RunError(f"{folder} has no held-out samples of step {step}, but of {there}")
        last = steps[-1] if step is None else step
        before, after = (_average(read_samples(folder, Split.HELD_OUT, one)) for one in (steps[0], last))
        for name, known in before.items():
            found = pairs.setdefault(name, [])
            for row, value in known.items():
                if (later := after.get(name, {}).get(row)) is not None:
                    found.append((str(number), row, value, later))
    return [_measure(name, found) for name, found in pairs.items()]


def _measure(name: str, found: Sequence[tuple[str, int, float, float]]) -> EvalDelta:
    if not found:
        return EvalDelta(name, None, None, None)
    return EvalDelta(
        name,
        fmean(before for *_, before, _ in found),
        fmean(after for *_, after in found),
        estimate_mean(
            [after - before for *_, before, after in found],
            [seed for seed, *_ in found],
            [row for _, row, _, _ in found],
            quantity=Quantity.NUMBER,
        ),
    )


def tabulate_eval_deltas(deltas: Sequence[EvalDelta]) -> str:
    """Return a table in Markdown."""
    lines = ["| held out | before | after | change [95 %] | prompts × seeds |", "|---|---:|---:|---:|---:|"]
    for delta in deltas:
        if delta.change is None:
            lines.append(f"| {delta.name} | none | none | none | 0 |")
            continue
        change = f"{delta.change.value:+.3f} [{delta.change.low:+.3f}, {delta.change.high:+.3f}]"
        lines.append(f"| {delta.name} | {delta.before:.3f} | {delta.after:.3f} | {change} | {delta.change.n} |")
    return "\n".join(lines)


def _average(samples: Sequence[TrainingSample]) -> dict[str, dict[int, float]]:
    """The figures of each prompt, by name and by the prompt's row."""
    collected: dict[str, dict[int, list[float]]] = {}
    for sample in samples:
        figures = {"reward": sample.reward, **sample.others, "4-grams copied": sample.instruction_4gram_overlap}
        for name, value in {**figures, "characters": float(len(sample.response))}.items():
            rows = collected.setdefault(name, {})
            if value is not None:
                rows.setdefault(sample.row, []).append(value)
    return {name: {row: fmean(values) for row, values in rows.items()} for name, rows in collected.items()}
