"""What trainings changed: held-out prompts before and after, prompt by prompt, over several seeds.

python -m flip_reward.training.grpo.gain FOLDER... prints a table; the folders are trainings that differ in the seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from flip_reward.errors import FlipRewardError, RunError
from flip_reward.evaluation.statistics import Estimate, check_libraries, estimate_mean
from flip_reward.report.training import TrainingSample, list_steps, read_samples
from flip_reward.training.grpo.samples import Split

_COPIED = "4-grams copied"
_CHARACTERS = "characters"


@dataclass(frozen=True, slots=True)
class Gain:
    """How a figure of held-out prompts changed.

    Attributes:
        name: "reward", the name of a reward that was not trained on, or a property of the responses.
        before: The mean over prompts before the first step.
        after: The mean over the same prompts later.
        change: The mean change of a prompt, with the bootstrap's 95 % interval over prompts within each seed.
    """

    name: str
    before: float
    after: float
    change: Estimate


def measure_gains(folders: Sequence[Path], *, step: int | None = None) -> list[Gain]:
    """Compare held-out responses from before the first step with later ones.

    A prompt counts where it has the figure at both times; its responses are averaged first.

    Args:
        folders: Trainings that differ in nothing but the seed.
        step: The step after which responses are compared. None is the last.

    Raises:
        RunError: A folder has no samples of held-out prompts from two steps, or none from the step.
        MissingDependencyError: numpy or scipy is not installed.
    """
    check_libraries()
    pairs: dict[str, list[tuple[str, float, float]]] = {}
    for number, folder in enumerate(folders):
        steps = list_steps(folder, Split.HELD_OUT.value)
        if len(steps) < 2:
            raise RunError(f"{folder} has no held-out samples from before and after")
        if step is not None and step not in steps[1:]:
            there = ", ".join(map(str, steps[1:]))
            raise RunError(f"{folder} has no held-out samples of step {step}, but of {there}")
        last = steps[-1] if step is None else step
        before, after = (_average(read_samples(folder, Split.HELD_OUT.value, one)) for one in (steps[0], last))
        for name, known in before.items():
            for row, value in known.items():
                if (later := after.get(name, {}).get(row)) is not None:
                    pairs.setdefault(name, []).append((str(number), value, later))
    return [
        Gain(
            name,
            fmean(before for _, before, _ in found),
            fmean(after for _, _, after in found),
            estimate_mean([after - before for _, before, after in found], [seed for seed, _, _ in found]),
        )
        for name, found in pairs.items()
    ]


def _average(samples: Sequence[TrainingSample]) -> dict[str, dict[int, float]]:
    """The figures of each prompt, by name and by the prompt's row."""
    collected: dict[str, dict[int, list[float]]] = {}
    for sample in samples:
        figures = {"reward": sample.reward, **sample.others, _COPIED: sample.instruction_4gram_overlap}
        for name, value in {**figures, _CHARACTERS: float(len(sample.response))}.items():
            if value is not None:
                collected.setdefault(name, {}).setdefault(sample.row, []).append(value)
    return {name: {row: fmean(values) for row, values in rows.items()} for name, rows in collected.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What trainings changed on held-out prompts.")
    parser.add_argument("folders", nargs="+", type=Path, help="trainings that differ in the seed")
    parser.add_argument("--step", type=int, help="compare with the responses after this step, by default the last")
    chosen = parser.parse_args(arguments)
    try:
        gains = measure_gains(chosen.folders, step=chosen.step)
    except FlipRewardError as error:
        sys.exit(f"Error: {error}")
    lines = ["| held out | before | after | change [95 %] | prompts |", "|---|---:|---:|---:|---:|"]
    for gain in gains:
        change = f"{gain.change.value:+.3f} [{gain.change.low:+.3f}, {gain.change.high:+.3f}]"
        lines.append(f"| {gain.name} | {gain.before:.3f} | {gain.after:.3f} | {change} | {gain.change.n} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
