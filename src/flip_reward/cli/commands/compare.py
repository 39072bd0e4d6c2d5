"""`flip-reward compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.options import AsJson
from flip_reward.evaluation.compare import compare_folders
from flip_reward.evaluation.results import ComparisonResult
from flip_reward.evaluation.statistics import Estimate, check_libraries

_MOST_SHOWN = 20
_FOLDER_HELP = "A folder of 'flip-reward evaluate', or a run folder in its cells/."


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help=_FOLDER_HELP, show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="RUN", help=_FOLDER_HELP, show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Compare rewards on the same items: the difference of their accuracies, and whether it can be told from none.

    Examples:

      flip-reward compare evaluations/before evaluations/after

      flip-reward compare EVAL/cells/llmbar--longest EVAL/cells/llmbar--copy
    """
    check_libraries()
    comparison = compare_folders(first, second)
    if as_json:
        results = [result.model_dump() for result in comparison.results]
        typer.echo(
            orjson.dumps({"comparisons": results, "left_out": comparison.left_out}, option=orjson.OPT_INDENT_2)
        )
        return
    console = Console()
    print_comparisons(console, comparison.results)
    for name in comparison.left_out:
        console.print(Text(f"{name}: only in one of them, left out"))


def print_comparisons(console: Console, comparisons: list[ComparisonResult]) -> None:
    """Print which of two rewards is better, as far as that can be told."""
    for comparison in comparisons[:_MOST_SHOWN]:
        better = {"a better": comparison.a, "b better": comparison.b}.get(comparison.verdict)
        said = "not told apart" if better is None else f"{better} is better"
        console.print(
            Text(
                f"{comparison.benchmark}: {comparison.a} - {comparison.b}: {comparison.difference.value:+.3f} "
                f"({format_interval(comparison.difference, signed=True)}), p {comparison.holm_p:.3g}: {said}"
            ),
            soft_wrap=True,
        )
    if len(comparisons) > _MOST_SHOWN:
        console.print(f"and {len(comparisons) - _MOST_SHOWN} more comparisons in the results")


def format_interval(estimate: Estimate, *, signed: bool = False) -> str:
    """Write an interval as "low to high"."""
    sign = "+" if signed else ""
    return f"{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}"
