"""`flip-reward score` and `flip-reward rescore`."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flip_reward.cli.batch import BatchOptions, read_batch, run_batch
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.options import (
    AsJson,
    Inputs,
    OnlyScores,
    OutputPath,
    PushToHub,
    RunOptions,
    expand_options,
    read_destination,
)
from flip_reward.cli.session import check_rows, print_made, print_note, run_job, show_prompts, tell_finished
from flip_reward.core.similarity import Similarity
from flip_reward.errors import OptionError
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.config import RewardConfig, split_settings
from flip_reward.rewards.similarities import load_similarity
from flip_reward.scoring.job import ScoringJob, find_finished, write_run_output
from flip_reward.scoring.rescore import holds_likelihoods, rescore_run

if TYPE_CHECKING:
    from flip_reward.distributed import RayScorer


@expand_options(without=("policy_tokenizer",))
def score(inputs: Inputs, config: RewardConfig, run: RunOptions, batching: BatchOptions) -> None:
    """Score responses: infer the instruction behind each, and reward how close it comes to the original.

    Or let a judge rate or compare them (--reward).

    Rows hold an instruction (or prompt, or messages) and a response (or responses). The run is kept in a folder; the
    same command again goes on where it stopped.

    Examples:

      flip-reward score responses.jsonl

      flip-reward score data.parquet --base-url http://localhost:8000/v1 --model Qwen/Qwen3-4B -o scored.parquet

      flip-reward score qa.csv --columns instruction=question,response=answer --dry-run

      flip-reward score best_of_n.jsonl -r listwise --orders 4 --model PATH.gguf

      flip-reward score large.parquet --shard 3/8 --run-folder /shared/large --model PATH.gguf

      flip-reward score responses.jsonl --base-url https://api.openai.com/v1 --model gpt-5-mini --batch submit
    """
    batch, config = read_batch(batching, config)
    reward, output = config.check(), run.destination  # mistakes come to light before a model loads
    job = ScoringJob(
        reward,
        inputs,
        folder=run.run_folder,
        output=output,
        columns=run.column_names,
        limit=run.limit,
        group_by=run.group_by,
        limits=run.to_limits(config.engine.requests_at_once),
        prices=run.prices,
        encoding=run.encoding,
        shard=run.shard_spec,
    )
    if run.dry_run:
        show_prompts(reward, inputs, run)
        return
    if finished := find_finished(job, config.describe_model().split()[0]):
        tell_finished(finished, as_json=run.as_json)
        return
    check_rows(inputs, run)
    if batch is None or not batch.with_files:
        typer.echo(f"model: {config.describe_model()}", err=True)
    if batch is not None and run.ray is not None:
        raise OptionError("--batch and --ray are two ways to ask", hint="leave one of them out")
    with _open_ray(config, run) as scorer:
        if scorer is None:
            job = replace(job, reward=config.load())
        else:
            limits = run.to_limits(scorer.rows_at_once)
            job = replace(job, reward=scorer.load_reward(), scorer=scorer, limits=limits)
        if batch is None:
            run_job(job, as_json=run.as_json, table=run.table)
        else:
            run_batch(job, batch, as_json=run.as_json, table=run.table)


def _open_ray(config: RewardConfig, run: RunOptions) -> AbstractContextManager[RayScorer | None]:
    """Start the workers that --ray asks for."""
    if run.ray is None:
        if run.ray_workers is not None:
            raise OptionError("--ray-workers is about --ray, which is not given", hint="--ray local, or an address")
        return nullcontext()
    from flip_reward.distributed import RayScorer, Workers

    workers = Workers.parse(run.ray_workers or "2")
    typer.echo(f"ray: {workers}, {'on this machine' if run.ray == 'local' else run.ray}", err=True)
    return closing(RayScorer(config, run.ray, workers))


@expand_options(only=("similarity", "normalizer", "embedding_model", "idf", "likelihood_value"))
def rescore(
    config: RewardConfig,
    run: Annotated[Path, typer.Argument(help="A run folder of 'flip-reward score'.", show_default=False)],
    run_folder: Annotated[
        Path | None,
        typer.Option("--run-folder", help="Where to write; by default RUN/rescored/MEASURE."),
    ] = None,
    output: OutputPath = None,
    only_scores: OnlyScores = False,
    push_to_hub: PushToHub = None,
    as_json: AsJson = False,
) -> None:
    """Compare the inferred instructions of a run another way, without the model.

    Or make another value of the likelihoods of a run of backward-likelihood.

    Examples:

      flip-reward rescore runs/responses-flip-1a2b3c4d --similarity rouge-l

      flip-reward rescore runs/responses-flip-1a2b3c4d --normalizer multilingual

      flip-reward rescore runs/responses-backward-likelihood-1a2b3c4d --likelihood-value pmi
    """
    measure = _choose_measure(config, run)
    destination = read_destination(output, only_scores=only_scores, push_to_hub=push_to_hub, as_json=as_json)
    folder, summary = rescore_run(run, measure, run_folder)
    for line in write_run_output(destination, run, folder):
        print_note(line)
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
    else:
        print_made(summary, folder, output)
    if not summary.scored_any:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _choose_measure(config: RewardConfig, run: Path) -> Similarity | LikelihoodValue:
    [config] = split_settings([config.updated(reward="backward-likelihood" if holds_likelihoods(run) else "flip")])
    if config.reward != "flip":
        return config.backward_likelihood.likelihood_value
    flip = config.flip
    return load_similarity(
        flip.similarity, normalizer=flip.normalizer, embedding_model=flip.embedding_model, idf=flip.idf
    )
