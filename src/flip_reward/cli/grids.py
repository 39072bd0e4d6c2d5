"""What `evaluate` and `audit` have in common: run after run with progress, until all are done or it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.console import ProgressDisplay, drain_on_interrupt, run_in_event_loop
from flip_reward.cli.session import STOPPED
from flip_reward.core.score import Outcome
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import EngineUnavailableError, OptionError
from flip_reward.evaluation.grid import GridReward, GridRun
from flip_reward.rewards.config import RewardConfig
from flip_reward.scoring.run_folder import RECORDS, read_summary
from flip_reward.scoring.runner import Observer


class GridDisplay:
    """Shows the progress of one run after the other."""

    def __init__(self, console: Console, unit: str) -> None:
        self._console = console
        self._unit = unit

    @contextmanager
    def watch(self, run: GridRun, *, completed_groups: int) -> Iterator[Observer]:
        """Show a bar while the run is scored."""
        groups = len(run.groups)
        self.say(f"{run.title}: {groups - completed_groups} of {groups} {self._unit} to score")
        display = ProgressDisplay(self._console, rows=groups, completed_rows=completed_groups)
        with display.shown():
            yield display

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(Text(message))


def run_with_progress(
    folder: Path,
    score: Callable[[GridDisplay, StopSignal], Coroutine[object, object, bool]],
    console: Console,
    stop: StopSignal,
    *,
    name: str,
    unit: str,
) -> bool:
    """Score the runs in a folder until all are done, or Ctrl-C stops them; return whether they are complete.

    Where the engine is lost, it is said which folder goes on.
    """

    async def work() -> bool:
        display = GridDisplay(console, unit)
        with drain_on_interrupt(stop, display.say):
            return await score(display, stop)

    try:
        return run_in_event_loop(work)
    except asyncio.CancelledError:
        stop.requested = True
        return False
    except EngineUnavailableError:
        if any(records.stat().st_size for records in folder.glob(f"*/*/{RECORDS}")):
            console.print(Text(f"{STOPPED}\n{name} folder: {folder}"), soft_wrap=True)
        raise


def check_models(rewards: Sequence[str], models: Sequence[str] | None) -> None:
    """Refuse models where no reward asks one."""
    if models and not any(RewardConfig(reward=name).asks_model for name in rewards):
        raise OptionError(f"none of the rewards ({', '.join(rewards)}) asks a model", hint="leave out --model")


def tell_models(rewards: Sequence[GridReward]) -> None:
    """Say which model answers for each reward."""
    for one in rewards:
        if one.answered_by:
            typer.echo(f"{one.label}: model: {one.answered_by}", err=True)


def explain_unscored(outcomes: Mapping[str, int], run: Path) -> str:
    """Say what became of the responses of a run without a score, with an example; empty where there are none."""
    summary = read_summary(run)
    details = summary.details if summary else {}
    return "; ".join(
        f"{count} {outcome}" + (f", such as: {details[outcome]}" if outcome in details else "")
        for outcome, count in outcomes.items()
        if outcome != Outcome.SCORED.value
    )
