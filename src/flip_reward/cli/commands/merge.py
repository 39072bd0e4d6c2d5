"""`flip-reward merge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.options import AsJson, OnlyScores, OutputPath, PushToHub, read_destination
from flip_reward.cli.session import print_made, print_note
from flip_reward.scoring.folders import MERGED, SHARD_RUNS
from flip_reward.scoring.job import check_destination, write_run_output
from flip_reward.scoring.run_folder import read_summary
from flip_reward.scoring.shards import merge as merging
from flip_reward.scoring.shards.parent import Shards


def merge(
    parent: Annotated[
        Path, typer.Argument(help="The folder above the shards of 'flip-reward score --shard'.", show_default=False)
    ],
    output: OutputPath = None,
    only_scores: OnlyScores = False,
    push_to_hub: PushToHub = None,
    as_json: AsJson = False,
) -> None:
    """Make one run of the shards of 'score --shard', in the order of the input, in PARENT/merged.

    It is a run like any other: 'report', 'rescore', 'compare' and 'select' take it. Nothing is made as long as a
    shard is missing or unfinished; the shards stay as they are.

    Examples:

      flip-reward merge runs/responses-flip-Qwen3-4B-1a2b3c4d-shards -o scored.parquet
    """
    destination = read_destination(output, only_scores=only_scores, push_to_hub=push_to_hub, as_json=as_json)
    for inner in (SHARD_RUNS, MERGED):  # before work of hours
        check_destination(destination, Shards.read(parent).sources, parent / inner)
    folder = merging.merge(parent)
    summary = read_summary(folder)
    assert summary is not None  # noqa: S101 - it was written just now
    for line in write_run_output(destination, folder, limit=summary.limit):
        print_note(line)
    if as_json:
        typer.echo(json.dumps({"run_folder": str(folder), **summary.model_dump()}, indent=2))
    else:
        print_made(summary, folder, output)
    if summary.rejected_rows or not summary.scored_any:
        raise typer.Exit(ExitCode.PARTLY_DONE)
