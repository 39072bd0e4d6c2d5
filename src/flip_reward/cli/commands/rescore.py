"""`flip-reward rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flip_reward.cli import options
from flip_reward.cli.console import print_summary
from flip_reward.rewards.similarities import load_similarity
from flip_reward.scoring.rescore import rescore_run


def rescore(
    run: Annotated[Path, typer.Argument(help="A run folder of 'flip-reward score'.", show_default=False)],
    similarity: options.SimilarityName = "f1",
    normalizer: options.NormalizerName = "english",
    embedding_model: options.EmbeddingModel = None,
    run_folder: Annotated[
        Path | None,
        typer.Option("--run-folder", "-r", help="Where to write; by default RUN/rescored/SIMILARITY."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare the inferred instructions of a run another way, without the model.

    Examples:

      flip-reward rescore runs/responses-1a2b3c4d --similarity rouge-l

      flip-reward rescore runs/responses-1a2b3c4d --normalizer multilingual
    """
    measure = load_similarity(similarity, normalizer=normalizer, embedding_model=embedding_model)
    folder, summary = rescore_run(run, measure, run_folder)
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
        return
    console = Console(soft_wrap=True)
    print_summary(console, summary)
    console.print(f"Run folder: {folder}", markup=False)
