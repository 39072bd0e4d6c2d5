"""`flip-reward calibrate`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flip_reward.cli.commands.compare import format_interval
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.data.files import write_atomically
from flip_reward.data.shapes import parse_columns
from flip_reward.data.tables import check_overwrites
from flip_reward.errors import OptionError
from flip_reward.evaluation.calibration import (
    FittedCalibration,
    Method,
    check_libraries,
    describe_precision,
    fit_calibration,
)
from flip_reward.evaluation.folder import read_benchmark_labels
from flip_reward.report.calibration import write_calibration_page
from flip_reward.rewards.calibration import LabelledRewards
from flip_reward.scoring.folders import CELLS, FolderKind, recognise
from flip_reward.selection.labels import UNREADABLE, read_labelled_rewards

_NAME = "calibration.json"


def calibrate(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run folder of 'flip-reward score' or another command.", show_default=False
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Rows with labels: anything that 'score' reads. By default the rows of the run, or for a run of an "
            "evaluation the labels of its benchmark.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column of the labels, where it is not recognised."),
    ] = None,
    good: Annotated[
        float | None, typer.Option(metavar="GRADE", help="Where labels are grades: from which one on is good.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="OURS=YOURS,...", help="Your names for our columns in the labels, as for 'score'."),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            metavar="|".join(Method),
            help="The map: logistic, which takes fewer labels; isotonic, of any shape; auto takes the better one.",
        ),
    ] = Method.AUTO,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.json", help=f"Where the calibration goes; by default RUN/{_NAME}."
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Show the page about it in the browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the calibration as JSON and nothing else.")] = False,
) -> None:
    """Turn rewards into probabilities, from a few hundred labels of responses.

    Labels are good and bad, win and lose, 1 and 0, thumbs up and down, or grades with --good GRADE; or rows say which
    of several responses is preferred. They meet the run by the texts of their rows, else by ids. Where the rewards
    carry no information about the labels there is no map, and the command says how many labels would show one.

    Examples:

      flip-reward calibrate runs/data-flip-Qwen3-4B-1a2b3c4d --labels labels.csv

      flip-reward calibrate runs/data-flip-Qwen3-4B-1a2b3c4d --labels graded.xlsx --label stars --good 4

      flip-reward score new.jsonl --calibration runs/data-flip-Qwen3-4B-1a2b3c4d/calibration.json
    """
    check_libraries()
    path = output or run / _NAME
    if path.suffix.lower() != ".json":
        raise OptionError(f"--output: {path} does not end with .json")
    page = path.with_suffix(".html")
    for one in (path, page):
        check_overwrites(one, [labels] if labels else [])
    given = parse_columns(columns) if columns else None
    kind = recognise(run)
    if kind is FolderKind.EVALUATE:
        raise OptionError(f"{run} is an evaluation, with a run for each reward", hint=f"name one: {run}/{CELLS}/NAME")
    if labels is None and kind is FolderKind.CELL:
        found = read_benchmark_labels(run)
    else:
        found = read_labelled_rewards(run, labels, label=label, good=good, columns=given)
    _tell_labels(found)
    fitted = fit_calibration(found, method)
    content = fitted.model_dump_json(indent=2)
    write_atomically(path, content.encode() + b"\n")
    write_calibration_page(page, fitted, run.resolve().name)
    if as_json:
        typer.echo(content)
    else:
        print_calibration(Console(), fitted, path, page)
    if show:
        webbrowser.open(page.resolve().as_uri())
    if found.left_out[UNREADABLE]:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _tell_labels(found: LabelledRewards) -> None:
    typer.echo(f"Labels: {len(found.good):,}, {found.source}", err=True)
    for reason, count in found.left_out.items():
        if count:
            typer.echo(f"Left out: {count:,} of {reason}", err=True)


def print_calibration(console: Console, fitted: FittedCalibration, path: Path, page: Path) -> None:
    """Print what the labels say about the reward, and about the map."""
    found, losses = fitted.figures, dict(fitted.figures.log_loss)
    chosen, without = losses.pop(fitted.curve.method), losses.pop("none")
    [(other, others)] = losses.items()
    for line in (
        f"{found.labels:,} labels, {found.good:,} of good responses, to {found.prompts:,} prompts",
        f"AUC: {found.auc.value:.3f} ({format_interval(found.auc)}), how often a good response has the higher reward",
        f"Map: {fitted.curve.method}, log loss {chosen:.3f} ({other} {others:.3f}, without rewards {without:.3f})",
        f"Brier score: {found.brier:.3f}{_say_before(found.brier_before)}",
        f"Calibration error: {found.calibration_error:.3f}{_say_before(found.calibration_error_before)}",
    ):
        console.print(Text(line), soft_wrap=True)
    table = Table(title="Of labels that the map was not fitted to", title_justify="left")
    for name in ("predicted", "labels", "good", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.bins:
        cells = f"{one.probability:.2f}", f"{one.labels:,}", f"{one.good:.2f}", f"{one.low:.2f} to {one.high:.2f}"
        table.add_row(*cells)
    console.print(table)
    for line in (describe_precision(found), f"Calibration: {path}", f"Page: {page}"):
        console.print(Text(line), soft_wrap=True)


def _say_before(figure: float | None) -> str:
    return "" if figure is None else f" (of the rewards as they are {figure:.3f})"
