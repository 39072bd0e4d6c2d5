"""`flip-reward audit --rollouts`: the logs of any trainer, as a person sees what was found in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flip_reward.audit.monitor.rollout import Alarm
from flip_reward.audit.rollouts.columns import NAMED, RolloutColumns
from flip_reward.audit.rollouts.results import RolloutAudit, StepFigures
from flip_reward.audit.rollouts.watch import Watcher, watch_rollouts
from flip_reward.cli.console import printable, shorten
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.data.shapes.columns import parse_columns
from flip_reward.errors import OptionError
from flip_reward.report.training.rollouts import build_rollouts_page

FAIL_IF = "alarm"
"""The one condition for `--fail-if`."""


def run_rollouts(
    sources: Sequence[str],
    *,
    columns: str | None = None,
    reward_columns: Sequence[str] = (),
    other_columns: Sequence[str] = (),
    encoding: str | None = None,
    run_folder: Path | None = None,
    fail_if: Sequence[str] = (),
    as_json: bool = False,
    monitor: Watcher | None = None,
) -> None:
    """Watch the rollouts in logs, print what was found, and end with the status that says so."""
    for condition in fail_if:
        if condition.strip() != FAIL_IF:
            raise OptionError(f"--fail-if {condition!r} is not for --rollouts", hint=f"its condition is '{FAIL_IF}'")
    named = parse_columns(columns, NAMED) if columns else {}
    known = RolloutColumns(**named, reward=tuple(reward_columns), others=tuple(other_columns))
    with _show_progress() as progress:
        audit = watch_rollouts(
            sources,
            known,
            folder=run_folder,
            encoding=encoding,
            monitor=monitor,
            progress=progress,
        )
    page = None if run_folder is None else build_rollouts_page(run_folder)
    if as_json:
        typer.echo(audit.model_dump_json(indent=2))
    else:
        print_rollouts(Console(), audit)
        if page is not None:
            typer.echo(f"Report: {page}")
    if fail_if and audit.alarms:
        raise typer.Exit(ExitCode.THRESHOLD_PASSED)
    if audit.rejected:
        raise typer.Exit(ExitCode.PARTLY_DONE)


@contextmanager
def _show_progress() -> Iterator[_Told]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as shown:
        yield _Told(shown)


class _Told:
    """Shows one line for each thing that is done."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, whole: int | None) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._shown.add_task(printable(what).plain, total=whole)
        self._shown.update(self._tasks[what], completed=done)


def print_rollouts(console: Console, audit: RolloutAudit) -> None:
    """Print what was read, the verdict, the figures of three steps, and the samples behind the first alarm."""
    for log in audit.logs:
        others = f"; not trained on: {', '.join(audit.not_trained_on)}" if audit.not_trained_on else ""
        trained = " + ".join(log.reward)
        console.print(printable(f"{log.source}: trained on {trained}{others}"), soft_wrap=True)
    first, last = audit.steps[0].step, audit.steps[-1].step
    missing = f", {audit.without_reward:,} without a reward" if audit.without_reward else ""
    steps = f"step {first:,}" if first == last else f"{len(audit.steps):,} steps, {first:,} to {last:,}"
    console.print(printable(f"{audit.samples:,} samples in {steps}{missing}"), soft_wrap=True)
    if audit.rejected:
        rows = "1 row" if audit.rejected == 1 else f"{audit.rejected:,} rows"
        console.print(printable(f"{rows} could not be read, first of them:"), soft_wrap=True)
        for reason in audit.reasons:
            console.print(printable(f"  {reason}"), soft_wrap=True)
    _print_figures(console, audit)
    console.print(Text(printable(audit.verdict).plain, style="bold"), soft_wrap=True)
    if audit.alarms:
        _print_examples(console, audit.alarms[0])


def _print_figures(console: Console, audit: RolloutAudit) -> None:
    steps = audit.steps
    shown = {steps[0].step: steps[0], steps[len(steps) // 2].step: steps[len(steps) // 2], steps[-1].step: steps[-1]}
    shown |= {one.step: one for one in steps if one.step == audit.onset}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure")
    for step in sorted(shown):
        table.add_column(f"step {step:,}" + ("\nonset" if step == audit.onset else ""), justify="right", no_wrap=True)
    found = {step: _list_figures(shown[step]) for step in sorted(shown)}
    names = dict.fromkeys(name for figures in found.values() for name in figures)
    for name in names:
        values = [figures.get(name) for figures in found.values()]
        table.add_row(printable(name), *["" if value is None else f"{value:.3f}" for value in values])
    if names:
        console.print(table)


def _list_figures(step: StepFigures) -> dict[str, float]:
    """Return the reward, those that are not trained on, and then what else is known."""
    reward = {name: value for name, value in step.figures.items() if name == "reward"}
    return reward | {f"{name}, not trained on": value for name, value in step.others.items()} | step.figures


def _print_examples(console: Console, alarm: Alarm) -> None:
    if not alarm.examples:
        return
    table = Table(title="What gained most by it", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("reward", justify="right", no_wrap=True)
    table.add_column("prompt", overflow="fold")
    table.add_column("response", overflow="fold")
    for one in alarm.examples:
        reward = "" if one.reward is None else f"{one.reward:.3f}"
        table.add_row(f"{one.step:,}", reward, shorten(one.prompt), shorten(one.response))
    console.print(table)
