"""Run an experiment grid in front of a person: a progress bar for every run, Ctrl-C, and the tables in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flip_reward.cli.console import ProgressDisplay, drain_on_interrupt, run_in_event_loop
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.evaluation.benchmarks.base import Benchmark
from flip_reward.evaluation.folder import open_folder
from flip_reward.evaluation.grid import ExperimentGrid, GridRun, prepare_folder, run_grid
from flip_reward.evaluation.results import ComparisonResult, EvaluationResults, write_results
from flip_reward.evaluation.statistics import Estimate
from flip_reward.evaluation.tabulate import tabulate
from flip_reward.report.evaluation import build_report
from flip_reward.scoring.runner import Observer, RunLimits, StopSignal
from flip_reward.scoring.summary import Prices

_MOST_COMPARISONS_SHOWN = 20


class _GridDisplay:
    """Shows the progress of one run after the other."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def watch(self, run: GridRun, *, completed_items: int) -> Iterator[Observer]:
        """Show a bar while the run is scored."""
        items = len(run.benchmark.items)
        self.say(f"{run.title}: {items - completed_items} of {items} items to score")
        display = ProgressDisplay(self._console, rows=items, settled_rows=completed_items)
        with display.shown():
            yield display

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(Text(message))


def evaluate_grid(
    grid: ExperimentGrid, folder: Path, *, concurrency: int, prices: Prices | None, as_json: bool
) -> None:
    """Evaluate, write the results and the report, and show the results.

    Args:
        grid: What to evaluate.
        folder: The evaluation folder.
        concurrency: How many items are in work at once.
        prices: What tokens cost.
        as_json: Print the results as JSON to standard output, and everything else to standard error.

    Raises:
        typer.Exit: It was interrupted, or some responses could not be scored because the engine failed.
        FlipRewardError: It could not be run.
    """
    console = Console(stderr=as_json)
    for _, benchmark in grid.benchmarks:
        _warn(console, benchmark)
    stop = StopSignal()
    complete = False

    async def work() -> bool:
        display = _GridDisplay(console)
        with drain_on_interrupt(stop, display.say):
            return await run_grid(
                folder, grid, display, limits=RunLimits(workers=concurrency), stop=stop, prices=prices
            )

    with open_folder(folder):
        prepare_folder(folder, grid)
        try:
            complete = run_in_event_loop(work)
        except asyncio.CancelledError:
            stop.requested = True
        finally:
            data = tabulate(folder)
            write_results(folder, data.results)
            report = build_report(folder, data)
    if as_json:
        typer.echo(data.results.model_dump_json(indent=2))
    else:
        print_results(console, data.results)
    for line in (f"Evaluation folder: {folder}", f"Report: {report}"):
        console.print(Text(line), soft_wrap=True)
    if stop.requested:
        console.print("Stopped. The same command goes on from here.")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not complete:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _warn(console: Console, benchmark: Benchmark) -> None:
    if benchmark.bad_rows:
        console.print(Text(f"{benchmark.name}: left out {len(benchmark.bad_rows)} bad rows", style="yellow"))
    if benchmark.shared_prompts:
        console.print(
            Text(
                f"{benchmark.name}: {benchmark.shared_prompts} of {len(benchmark.items)} items share their prompt "
                "with another; the intervals assume that items are independent and may be too narrow",
                style="yellow",
            )
        )


def print_results(console: Console, results: EvaluationResults) -> None:
    """Print a table for every benchmark, and the comparisons."""
    for benchmark in results.benchmarks:
        cells = [cell for cell in results.cells if cell.benchmark == benchmark.name]
        if not cells:
            continue
        table = Table(title=f"{benchmark.name}: {benchmark.items} items", title_justify="left")
        table.add_column("reward", overflow="fold")
        for column in ("accuracy", "95 % interval", "ties wrong", "unscored"):
            table.add_column(column, justify="right")
        for cell in sorted(cells, key=lambda cell: -cell.overall.fractional.value):
            accuracy = cell.overall
            table.add_row(
                Text(cell.reward),
                f"{accuracy.fractional.value:.3f}",
                _interval(accuracy.fractional),
                f"{accuracy.strict.value:.3f}",
                str(accuracy.unscored_items),
            )
        console.print(table)
    print_comparisons(console, results.comparisons)


def print_comparisons(console: Console, comparisons: list[ComparisonResult]) -> None:
    """Print which of two rewards is better, as far as that can be told."""
    for comparison in comparisons[:_MOST_COMPARISONS_SHOWN]:
        better = {"a better": comparison.a, "b better": comparison.b}.get(comparison.verdict)
        said = "not told apart" if better is None else f"{better} is better"
        console.print(
            Text(
                f"{comparison.benchmark}: {comparison.a} - {comparison.b}: {comparison.difference.value:+.3f} "
                f"({_interval(comparison.difference, signed=True)}), p {comparison.holm_p:.3g}: {said}"
            ),
            soft_wrap=True,
        )
    if len(comparisons) > _MOST_COMPARISONS_SHOWN:
        console.print(f"and {len(comparisons) - _MOST_COMPARISONS_SHOWN} more comparisons in the results")


def _interval(estimate: Estimate, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}"
