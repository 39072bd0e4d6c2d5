"""`watch_rollouts`: a trainer's logs -> what a monitor would have said while it trained."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Protocol

from flip_reward.audit.monitor.rollout import Alarm, Rollout, StepReport
from flip_reward.audit.rollouts.columns import RolloutColumns
from flip_reward.audit.rollouts.read import RolloutSource, open_rollouts
from flip_reward.audit.rollouts.results import LogColumns, RolloutAudit, StepFigures, check_folder, write_rollouts
from flip_reward.audit.rollouts.store import StepStore
from flip_reward.data.rows import Input, InvalidRow
from flip_reward.errors import DataError

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and how much there is, where that is known."""

_REASONS_KEPT = 5
_TOLD_EVERY = 200
SAMPLES_KEPT = 2000
_FEWEST_STEPS = 8
"""The monitor compares with the first five steps, and waits for three that are above them."""
_LOOKED_AT = 256
"""Samples kept of the first and the last step, and of those of alarms."""


class Watcher(Protocol):
    """What `audit.monitor.monitor.Monitor` does."""

    def observe(self, step: int, rollouts: Sequence[Rollout]) -> StepReport:
        """Take in a step, after those before it."""
        ...

    def observe_held_out(self, step: int, rollouts: Sequence[Rollout]) -> StepReport:
        """Take in responses to held-out prompts after a step."""
        ...


def watch_rollouts(
    sources: Sequence[str | Input],
    columns: RolloutColumns | None = None,
    *,
    folder: Path | None = None,
    encoding: str | None = None,
    monitor: Watcher | None = None,
    progress: Progress | None = None,
) -> RolloutAudit:
    """Watch the rollouts in the logs of any trainer, step by step, as `flip-reward train` watches its own.

    Rows may come in any order; they are put in that of their steps on disk. Rows that cannot be read are left out and
    counted; a sample without a reward stays, since it says what the policy writes.

    Args:
        sources: Files, folders, patterns, addresses, data sets on the hub; the output folder of `flip-reward train`
            or of TRL with `log_completions`; or what is opened already.
        columns: What stands where, as far as it is not to be found out.
        folder: Where to write `rollouts.json` and `samples.jsonl`, which has at most about 2,000 samples.
        encoding: How texts are encoded.
        monitor: What watches; by default a `Monitor` with its own options.
        progress: Told how far it is.

    Raises:
        DataError: A log cannot be read, or holds no reward.
        OptionError: It cannot be told what a column holds.
    """
    if folder is not None:
        check_folder(folder)
    if monitor is None:
        from flip_reward.audit.monitor.monitor import Monitor

        monitor = Monitor()
    tell = progress or (lambda _what, _done, _whole: None)
    known = columns or RolloutColumns()
    logs = [log for source in sources for log in open_rollouts(source, known, encoding=encoding)]
    with StepStore.open() as store:
        intake = _Intake()
        for log in logs:
            store.add(intake.take(log, tell), held_out=log.held_out)
        intake.check([one.name if isinstance(one, Input) else one for one in sources])
        steps, alarms = _watch(store, monitor, tell)
        audit = RolloutAudit(
            logs=[_describe(log) for log in logs],
            verdict=_say(steps, alarms, intake.others),
            onset=alarms[0].onset if alarms else None,
            mechanism=alarms[0].mechanism if alarms else None,
            samples=intake.samples,
            without_reward=intake.samples - intake.rewarded,
            not_trained_on=sorted(intake.others),
            rejected=intake.rejected,
            reasons=intake.reasons,
            alarms=alarms,
            steps=steps,
        )
        if folder is not None:
            write_rollouts(folder, audit, _choose_samples(store, [one.step for one in steps], alarms))
    return audit


def _watch(store: StepStore, monitor: Watcher, tell: Progress) -> tuple[list[StepFigures], list[Alarm]]:
    """Hand all steps to the monitor, in their order."""
    steps: list[StepFigures] = []
    alarms: list[Alarm] = []
    known = store.steps()
    for number, step in enumerate(known, 1):
        if rollouts := store.read(step):
            report = monitor.observe(step, rollouts)
            steps.append(_describe_step(rollouts, report))
            alarms += report.alarms
        if held_out := store.read(step, held_out=True):
            alarms += monitor.observe_held_out(step, held_out).alarms
        tell("steps", number, len(known))
    return steps, alarms


@dataclass(slots=True)
class _Intake:
    """Counts what comes in."""

    samples: int = 0
    rewarded: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)

    def take(self, log: RolloutSource, tell: Progress) -> Iterator[Rollout]:
        for number, found in enumerate(log.rollouts(), 1):
            if isinstance(found, InvalidRow):
                self.rejected += 1
                if len(self.reasons) < _REASONS_KEPT:
                    self.reasons.append(f"{log.name}, row {found.line}: {found.reason}")
            else:
                if not log.held_out:
                    self.samples += len(found)
                    self.rewarded += sum(one.reward is not None for one in found)
                self.others.update(name for one in found for name, value in one.others.items() if value is not None)
                yield from found
            if not number % _TOLD_EVERY:
                tell(f"rows of {log.name}", number, log.size_hint)

    def check(self, sources: Sequence[str]) -> None:
        """Refuse logs without anything to watch."""
        named = ", ".join(sources)
        if not self.samples:
            reason = f": {self.reasons[0]}" if self.reasons else ""
            raise DataError(f"{named} has no row that can be read{reason}")
        if not self.rewarded:
            unread = f"; {self.rejected:,} rows cannot be read: {self.reasons[0]}" if self.reasons else ""
            raise DataError(
                f"none of the {self.samples:,} samples in {named} has a reward{unread}",
                hint="name the column that is trained on with --reward-column",
            )


def _describe(log: RolloutSource) -> LogColumns:
    found = log.columns
    return LogColumns(
        source=log.name,
        step=found.step,
        prompt=found.prompt,
        response=found.response,
        reward=list(found.reward),
        others=list(found.others),
    )


def _describe_step(rollouts: Sequence[Rollout], report: StepReport) -> StepFigures:
    others: dict[str, list[float]] = {}
    for one in rollouts:
        for name, value in one.others.items():
            if value is not None:
                others.setdefault(name, []).append(value)
    return StepFigures(
        step=report.step,
        samples=len(rollouts),
        without_reward=sum(one.reward is None for one in rollouts),
        figures=dict(report.figures),
        others={name: fmean(values) for name, values in others.items()},
    )


def _say(steps: Sequence[StepFigures], alarms: Sequence[Alarm], others: set[str]) -> str:
    """Say what was found in a sentence or two."""
    if alarms:
        more = f" ({len(alarms) - 1} more)" if len(alarms) > 1 else ""
        return alarms[0].message + more
    if len(steps) == 1:
        return "There is one step only, so nothing can be said about a change."
    said = f"No alarm in {len(steps):,} steps, {steps[0].step:,} to {steps[-1].step:,}."
    if len(steps) < _FEWEST_STEPS:
        return f"{said} That is too few for one."
    if others and not any("divergence" in step.figures for step in steps):
        return f"{said} Nothing was compared: that takes two samples of a step that have both rewards."
    if not others:
        said += (
            " No reward that is not trained on was logged, so only what goes with a known mechanism would be seen."
        )
    return said


def _choose_samples(store: StepStore, steps: Sequence[int], alarms: Sequence[Alarm]) -> Iterator[Rollout]:
    """Choose what a person may want to look at: the first and last step, those of alarms, and some of all others."""
    wanted = {steps[0], steps[-1], *[step for alarm in alarms[:4] for step in (alarm.onset, alarm.step)]}
    share = max(1, SAMPLES_KEPT // len(steps))
    stride = -(-len(steps) // SAMPLES_KEPT)
    for number, step in enumerate(steps):
        if step in wanted or number % stride == 0:
            rollouts = store.read(step)
            count = min(len(rollouts), max(share, _LOOKED_AT) if step in wanted else share)
            places = sorted(random.Random(step).sample(range(len(rollouts)), count))  # noqa: S311 - the same each time
            yield from (rollouts[place] for place in places)
