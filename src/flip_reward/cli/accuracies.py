"""The table of an evaluation: how often each reward is right about a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flip_reward.cli.console import printable
from flip_reward.evaluation.results import BenchmarkSummary, ExperimentResult, ProtocolFigure, name_headline, rank
from flip_reward.evaluation.statistics import Estimate

_UNBALANCED = "no length-balanced accuracy, which needs items with a longer chosen response and some with a shorter"

_INTERVAL_WIDTH = len("0.573-0.668")

_Show = Callable[[ExperimentResult], Text]


def print_accuracies(console: Console, benchmark: BenchmarkSummary, cells: Sequence[ExperimentResult]) -> None:
    """Print a line for each reward, the best one first, with its 95 % intervals on the line below.

    The first number is the one that the benchmark's authors compare by, where that is not the accuracy itself. The
    cost, where prices are known, stands at the end if there is room for it.
    """
    columns = _choose_columns(cells)
    table = _draw(benchmark, cells, columns)
    if any(cell.cost is not None for cell in cells):
        priced = _draw(benchmark, cells, {**columns, "cost": _show_cost})
        if console.measure(priced, options=console.options.update(width=10_000)).maximum <= console.width:
            table = priced
    console.print(table)
    if "length-balanced" not in columns and any(cell.overall.fractional for cell in cells):
        console.print(printable(f"{benchmark.name}: {_UNBALANCED}"), soft_wrap=True)


def _draw(benchmark: BenchmarkSummary, cells: Sequence[ExperimentResult], columns: dict[str, _Show]) -> Table:
    title = printable(f"{benchmark.name}: {benchmark.items} items, 95 % intervals below")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("reward", overflow="fold")
    for name in columns:
        lines = [line for part in name.split("\n") for line in wrap(part, _INTERVAL_WIDTH)]
        table.add_column("\n".join(lines), justify="right", no_wrap=True)
    for cell in rank(cells):
        table.add_row(printable(cell.reward), *[show(cell) for show in columns.values()])
    return table


def _choose_columns(cells: Sequence[ExperimentResult]) -> dict[str, _Show]:
    columns: dict[str, _Show] = {}
    headline = name_headline(cells)
    if headline is not None:
        columns[headline] = lambda cell: _show(cell.find_figure(headline))
    columns["accuracy"] = lambda cell: _show(cell.overall.fractional) or Text("no verdict")
    if any(cell.overall.length_balanced for cell in cells):
        columns["length-balanced"] = lambda cell: _show(cell.overall.length_balanced)
    columns["ties\nwrong"] = lambda cell: Text("" if (one := cell.overall.strict) is None else f"{one.value:.3f}")
    columns["unscored"] = lambda cell: Text(str(cell.overall.unscored_items))
    return columns


def _show(found: Estimate | ProtocolFigure | None) -> Text:
    if found is None:
        return Text()
    return Text.assemble(f"{found.value:.3f}\n", (f"{found.low:.3f}-{found.high:.3f}", "dim"))


def _show_cost(cell: ExperimentResult) -> Text:
    return Text("" if cell.cost is None else f"{cell.cost:,.4f}")
