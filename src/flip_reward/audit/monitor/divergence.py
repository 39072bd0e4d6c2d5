"""How far the trained reward rises away from those that are not trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, variance

from pydantic import BaseModel, Field

from flip_reward.audit.monitor.figures import finite
from flip_reward.audit.monitor.options import MonitorOptions
from flip_reward.audit.monitor.rollout import Rollout

_STANDARD_ERRORS = 3


class Source(StrEnum):
    """What is compared. Each has an early mean and deviation of its own."""

    ALONE = "alone"
    """The trained reward of samples, where no other reward is known: its rise alone."""
    TRAIN = "train"
    HELD_OUT = "held-out"


class Moments(BaseModel):
    """A mean and a variance, by Welford's method."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take one more value."""
        self.count += 1
        distance = value - self.mean
        self.mean += distance / self.count
        self.squares += distance * (value - self.mean)

    def standardize(self, value: float) -> float | None:
        """Return how many standard deviations a value lies above the mean; None where nothing varies."""
        deviation = math.sqrt(self.squares / self.count) if self.count else 0.0
        # A deviation of rounding errors is none.
        return (value - self.mean) / deviation if deviation > 1e-9 * max(1.0, abs(self.mean)) else None


class Early(BaseModel):
    """The early samples of a source."""

    steps: int = 0
    prompts: int = 0
    trained: Moments = Field(default_factory=Moments)
    others: dict[str, Moments] = {}

    def add(self, rows: Sequence[ComparedRow]) -> None:
        """Take a step more."""
        self.steps += 1
        self.prompts += len({row.prompt for row in rows})
        for row in rows:
            self.trained.add(row.trained)
            for name, value in row.others.items():
                self.others.setdefault(name, Moments()).add(value)

    def compare(self, row: ComparedRow) -> float | None:
        """Return z(trained reward) minus the mean of z(the others); None where one does not vary."""
        trained = self.trained.standardize(row.trained)
        known = (self.others[name].standardize(value) for name, value in row.others.items() if name in self.others)
        others = [value for value in known if value is not None]
        if trained is None or (row.others and not others):
            return None
        return trained - (fmean(others) if others else 0.0)


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A sample with a trained reward and, but for `Source.ALONE`, another one."""

    prompt: str
    trained: float
    others: Mapping[str, float]


class Divergence(BaseModel):
    """The moving average of the difference, with what it is made of. It can be written as JSON."""

    early: dict[Source, Early] = {}
    compared: list[str] = []
    """The names of the other rewards."""
    value: float | None = None
    variance: float = 0.0
    """That of `value`, by the scatter between prompts."""
    last_step: int = 0
    above: int = 0
    """For how many steps it has been too large."""
    onset: int | None = None
    """When it passed half of the threshold, from where it still is above."""
    alarmed: bool = False
    """Whether an alarm was raised since. There is one at most until it has come back."""

    def observe(self, step: int, rollouts: Sequence[Rollout], options: MonitorOptions, *, held_out: bool) -> None:
        """Take the samples of a step, or responses to held-out prompts. Without any that compare, it stays."""
        rows = _compare(rollouts)
        if any(row.others for row in rows):
            rows = [row for row in rows if row.others]
            source = Source.HELD_OUT if held_out else Source.TRAIN
            self._know({name for row in rows for name in row.others})
        elif held_out or self.compared:
            return
        else:
            source = Source.ALONE
        if len(rows) < 2:
            return
        early = self.early.setdefault(source, Early())
        found = [(row.prompt, early.compare(row)) for row in rows] if early.steps else []
        differences = [(prompt, value) for prompt, value in found if value is not None]
        if early.steps < (1 if held_out else options.early_steps) or len(differences) < 2:
            early.add(rows)
            self.last_step = step
            return
        self._move(step, differences, early, options, held_out=held_out)

    def _know(self, names: set[str]) -> None:
        """Start anew where the first other rewards are known."""
        if not self.compared:
            self.value, self.variance, self.above, self.onset, self.alarmed = None, 0.0, 0, None, False
        self.compared = sorted({*self.compared, *names})

    def _move(
        self,
        step: int,
        differences: Sequence[tuple[str, float]],
        early: Early,
        options: MonitorOptions,
        *,
        held_out: bool,
    ) -> None:
        gap = max(1, step - self.last_step)
        self.last_step = step
        by_prompt: dict[str, list[float]] = {}
        for prompt, value in differences:
            by_prompt.setdefault(prompt, []).append(value)
        means = [fmean(values) for values in by_prompt.values()]
        # Responses to one prompt are alike, so they count as one where there are several prompts.
        units, early_units = means, early.prompts
        if len(means) == 1:
            units, early_units = [value for _, value in differences], early.trained.count
        scatter = variance(units)
        weight = 1 - (1 - options.smoothing) ** gap
        self.value = (1 - weight) * (self.value or 0.0) + weight * fmean(means)
        self.variance = (1 - weight) ** 2 * self.variance + weight**2 * scatter / len(units)
        noise = math.sqrt(self.variance + scatter / max(1, early_units))
        far = self.value >= options.threshold and self.value >= _STANDARD_ERRORS * noise
        self.above = self.above + (gap if held_out else 1) if far else 0
        if self.value < options.threshold / 2:
            self.onset, self.alarmed = None, False
        elif self.onset is None:
            self.onset = step


def _compare(rollouts: Sequence[Rollout]) -> list[ComparedRow]:
    rows = []
    for rollout in rollouts:
        trained = finite(rollout.reward)
        if trained is not None:
            known = ((name, finite(value)) for name, value in rollout.others.items())
            others = {name: value for name, value in known if value is not None}
            rows.append(ComparedRow(rollout.prompt, trained, others))
    return rows
