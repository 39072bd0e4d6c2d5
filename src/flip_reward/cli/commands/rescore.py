"""`flip-reward rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flip_reward.cli.console import print_summary
from flip_reward.cli.options import AsJson, expand_options
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.similarities import load_similarity
from flip_reward.scoring.rescore import rescore_run


@expand_options(only=("similarity", "normalizer", "embedding_model"))
def rescore(
    config: RewardConfig,
    run: Annotated[Path, typer.Argument(help="A run folder of 'flip-reward score'.", show_default=False)],
    run_folder: Annotated[
        Path | None,
        typer.Option("--run-folder", "-r", help="Where to write; by default RUN/rescored/SIMILARITY."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the inferred instructions of a run another way, without the model.

    Examples:

      flip-reward rescore runs/responses-1a2b3c4d --similarity rouge-l

      flip-reward rescore runs/responses-1a2b3c4d --normalizer multilingual
    """
    flip = config.flip
    measure = load_similarity(flip.similarity, normalizer=flip.normalizer, embedding_model=flip.embedding_model)
    folder, summary = rescore_run(run, measure, run_folder)
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
        return
    console = Console(soft_wrap=True)
    print_summary(console, summary)
    console.print(f"Run folder: {folder}", markup=False)
