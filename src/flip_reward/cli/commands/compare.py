"""`flip-reward compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flip_reward.cli.console import shorten
from flip_reward.cli.options import AsJson
from flip_reward.errors import OptionError
from flip_reward.evaluation.compare import compare_folders
from flip_reward.evaluation.compare_runs import RunComparison, compare_runs, read_pairs
from flip_reward.evaluation.results import ComparisonResult
from flip_reward.evaluation.statistics import CONFIDENCE, Estimate, check_libraries
from flip_reward.report.training.folder import is_training
from flip_reward.scoring.folders import recognise

_MOST_SHOWN = 20
_FOLDER_HELP = (
    "Two run folders over the same input; or two folders of 'flip-reward evaluate', or run folders in their cells/; "
    "or folders of 'flip-reward train' that differ in the seed."
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
    """Compare rewards on the same responses, or what trainings changed on held-out prompts.

    For two runs of 'score' or 'best-of-n' over the same input it shows the difference of the mean rewards, how far
    they agree, and where they differ most; --json has every response. For two evaluations it shows the difference in
    accuracy and whether that is more than chance; for trainings, each figure of held-out prompts before the first
    step and after the last, with an interval over prompts.

    Examples:

      flip-reward compare runs/data-flip-Qwen3-4B-1a2b3c4d runs/data-pointwise-Qwen3-4B-5e6f7a8b

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
        raise OptionError(f"name two folders to compare, not {len(folders)}")
    kinds = [recognise(folder) for folder in folders]
    runs = [kind is not None and kind.is_run and not kind.whole for kind in kinds]
    if all(runs):
        _compare_runs(folders[0], folders[1], as_json=as_json)
        return
    if any(runs):
        said = [
            f"{path} is {kind.description if kind else 'no run folder'}"
            for path, kind in zip(folders, kinds, strict=True)
        ]
        raise OptionError(", and ".join(said), hint="compare two folders of the same kind")
    _compare_evaluations(folders[0], folders[1], as_json=as_json)


def _compare_runs(a: Path, b: Path, *, as_json: bool) -> None:
    check_libraries()
    comparison = compare_runs(a, b)
    if not as_json:
        print_run_comparison(Console(), comparison)
        return
    typer.echo(orjson.dumps(comparison)[:-1] + b',"pairs":[', nl=False)
    for number, pair in enumerate(read_pairs(a, b)):
        fields = {"id": pair.id, "row": pair.row, "a": pair.a, "b": pair.b, "difference": pair.difference}
        typer.echo((b",\n" if number else b"\n") + orjson.dumps(fields), nl=False)
    typer.echo("]}")


def print_run_comparison(console: Console, found: RunComparison) -> None:
    """Print how far two runs agree, and where they differ most."""
    lines = [f"a: {found.a}", f"b: {found.b}", f"{found.responses:,} responses in {found.rows:,} rows scored by both"]
    lines += [
        f"{count:,} responses only in {run}" for run, count in (("a", found.only_a), ("b", found.only_b)) if count
    ]
    if found.difference is not None and found.mean_a is not None and found.mean_b is not None:
        said = "" if found.difference.excludes_zero else ": not told apart"
        lines.append(
            f"Mean over rows: a {found.mean_a.value:.3f}, b {found.mean_b.value:.3f}, "
            f"a - b {found.difference.value:+.3f} ({format_interval(found.difference, signed=True)}){said}"
        )
    elif not found.same_scale:
        lines.append("The rewards are not on the same scale, so their means are not compared")
    if found.rank_correlation is not None:
        rank = found.rank_correlation
        lines.append(f"Rank correlation of rows (Spearman): {rank.value:.3f} ({format_interval(rank)})")
    if found.same_best is not None:
        lines.append(
            f"The same best response: in {found.same_best.value:.1%} of {found.same_best.n:,} groups "
            f"({found.same_best.low:.1%} to {found.same_best.high:.1%}); by chance {found.same_best_by_chance:.1%}"
        )
    lines += [f"{count:,} responses {pair.replace(', ', ' in a, ')} in b" for pair, count in found.outcomes.items()]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    if found.most_different:
        table = Table(title="Where they differ most", title_justify="left")
        table.add_column("id", overflow="fold", max_width=24)
        table.add_column("instruction", overflow="fold")
        table.add_column("a", justify="right", no_wrap=True)
        table.add_column("b", justify="right", no_wrap=True)
        for pair in found.most_different:
            rewards = [f"{value:.3f}" for value in (pair.a, pair.b) if value is not None]
            table.add_row(shorten(pair.id), shorten(pair.instruction), *rewards)
        console.print(table)


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
    if not comparison.results:
        console.print("Nothing was compared: the two have no reward with a verdict on the same items.")
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
        if better is None and comparison.holm_p < 1 - CONFIDENCE:
            said = f"{said}, as it depends on how ties and unscored items count"
        balanced = comparison.length_balanced_difference
        if balanced is not None:
            said = f"{said}; length-balanced {balanced.value:+.3f} ({format_interval(balanced, signed=True)})"
        console.print(
            Text(
                f"{comparison.benchmark}: {comparison.title}: {comparison.difference.value:+.3f} "
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
