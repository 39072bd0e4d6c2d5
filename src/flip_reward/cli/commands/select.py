"""`flip-reward select`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.session import print_note
from flip_reward.data.shapes import parse_columns
from flip_reward.data.tables import FORMATS
from flip_reward.selection.training import Wanted, select_file

_FORMATS = ", ".join(FORMATS)


def select(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|FILE...", help="A run folder, or scored files as -o writes them.", show_default=False
        ),
    ],
    top: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Keep this share of the responses, those with the best rewards."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Keep the responses with at least this reward.")] = None,
    best_of_group: Annotated[bool, typer.Option("--best-of-group", help="Keep the best response of each group.")] = (
        False
    ),
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Pair the best and the worst response of each group, as TRL reads pairs.")
    ] = False,
    margin: Annotated[float, typer.Option(min=0, help="Of --pairs: their rewards differ at least by this.")] = 0.0,
    group_by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What the rows of a group share. By default the prompt."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="OURS=YOURS,...", help="Your names for our columns, as for 'score'.")
    ] = None,
    reward_column: Annotated[
        str | None, typer.Option(help="The column of the rewards, where it is not 'reward'.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help=f"A file ({_FORMATS}); by default standard output, as JSON lines.")
    ] = Path("-"),
    left_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file for the rest, each with the reason.")
    ] = None,
) -> None:
    """Select training data from scored rows: rows for supervised tuning as they came in, or pairs for DPO.

    Examples:

      flip-reward select scored.csv --top 0.5 -o sft.csv

      flip-reward select runs/data-flip-Qwen3-4B-1a2b3c4d --best-of-group --left-out rest.jsonl -o sft.jsonl

      flip-reward select scored.jsonl --pairs --margin 0.2 -o dpo.parquet
    """
    wanted = Wanted(top, threshold, best_of_group, pairs, margin)
    given = parse_columns(columns) if columns else None
    selected = select_file(
        inputs, wanted, output, left_out, columns=given, reward_column=reward_column, group_by=group_by
    )
    typer.echo(f"Selected: {selected.kept:,} {'pair' if pairs else 'response'}{'s' * (selected.kept != 1)}", err=True)
    for reason, count in selected.left_out.items():
        typer.echo(f"Left out: {count:,} {reason}", err=True)
    for remark in selected.remarks:
        print_note(remark)
    if not selected.kept:
        raise typer.Exit(ExitCode.PARTLY_DONE)
