"""`flip-reward compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.options import AsJson
from flip_reward.errors import OptionError
from flip_reward.evaluation.compare import compare_folders
from flip_reward.evaluation.results import ComparisonResult
from flip_reward.evaluation.statistics import Estimate, check_libraries
from flip_reward.report.training import is_training

_MOST_SHOWN = 20
_FOLDER_HELP = (
    "Two folders of 'flip-reward evaluate', or run folders in their cells/; or folders of 'flip-reward train' that "
    "differ in the seed."
)


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help=_FOLDER_HELP, show_default=False)],
    step: Annotated[
        int | None,
        typer.Option(
            help="Of trainings: compare with the responses after this step, not the last.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare rewards on the same items, or what trainings changed on held-out prompts.

    For two evaluations it shows the difference in accuracy and whether that is more than chance; for trainings, each
    figure of held-out prompts before the first step and after the last, with an interval over prompts.

    Examples:

      flip-reward compare evaluations/before evaluations/after

      flip-reward compare EVAL/cells/llmbar--longest EVAL/cells/llmbar--copy

      flip-reward compare trained/seed-1 trained/seed-2 --step 15
    """
    if all(map(is_training, folders)):
        _compare_trainings(folders, step, as_json=as_json)
        return
    if step is not None:
        raise OptionError("--step is for folders of trainings", hint="'flip-reward train' makes them")
    if len(folders) != 2:
        raise OptionError(f"name two evaluations to compare, not {len(folders)}")
    _compare_evaluations(folders[0], folders[1], as_json=as_json)


def _compare_evaluations(first: Path, second: Path, *, as_json: bool) -> None:
    check_libraries()
    comparison = compare_folders(first, second)
    if as_json:
        results = [result.model_dump() for result in comparison.results]
        typer.echo(
            orjson.dumps(
                {"comparisons": results, "left_out": comparison.left_out, "no_verdict": comparison.no_verdict},
                option=orjson.OPT_INDENT_2,
            )
        )
        return
    console = Console()
    print_comparisons(console, comparison.results)
    for name in comparison.no_verdict:
        console.print(Text(f"{name}: no verdict, nothing to compare"), soft_wrap=True)
    for name in comparison.left_out:
        console.print(Text(f"{name}: only in one of them, left out"))


def _compare_trainings(folders: list[Path], step: int | None, *, as_json: bool) -> None:
    from flip_reward.training.grpo.eval_delta import measure_eval_deltas, tabulate_eval_deltas

    deltas = measure_eval_deltas(folders, step=step)
    if as_json:
        typer.echo(orjson.dumps({"eval_deltas": [asdict(delta) for delta in deltas]}, option=orjson.OPT_INDENT_2))
    else:
        typer.echo(tabulate_eval_deltas(deltas))


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
