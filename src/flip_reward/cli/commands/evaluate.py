"""`flip-reward evaluate`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from flip_reward.cli.commands.grid_session import evaluate_grid
from flip_reward.cli.options import AsJson, PriceCompletion, PricePrompt, expand_options, read_prices
from flip_reward.evaluation.benchmarks.base import Benchmark, sample_items
from flip_reward.evaluation.benchmarks.catalogue import load_benchmark
from flip_reward.evaluation.folder import EvaluationOptions
from flip_reward.evaluation.grid import ExperimentGrid, line_up
from flip_reward.evaluation.recipe import Recipe, RecipeModel
from flip_reward.evaluation.statistics import check_libraries
from flip_reward.rewards.config import RewardConfig

_GRID = "Grid"


@expand_options(without=("reward", "model"))
def evaluate(
    config: RewardConfig,
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE.yaml]", help="An evaluation as a file.", show_default=False)
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            "-b",
            help="rewardbench2, rm-bench, judgebench, judgebench-claude or llmbar; a file of {prompt, chosen, "
            "rejected}; or NAME=FILE for a file with that benchmark's rows. ':SUBSET,SUBSET' behind it keeps these.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--reward",
            "-r",
            help="flip, backward-likelihood, pointwise, pairwise or listwise; or without a model longest, shortest "
            "or copy.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="As for 'score'; several come one after the other. With a recipe: only these of its models.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, help="Ask everything so often, and average.", rich_help_panel=_GRID)
    ] = 1,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Only so many items of each benchmark, from every subset.", rich_help_panel=_GRID),
    ] = None,
    sample_seed: Annotated[int, typer.Option(help="Another seed takes other items.", rich_help_panel=_GRID)] = 0,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used.", rich_help_panel=_GRID)
    ] = False,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            help="The evaluation folder: made, extended or resumed. By default below evaluations/.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    price_prompt: PricePrompt = None,
    price_completion: PriceCompletion = None,
    as_json: AsJson = False,
) -> None:
    """Grade rewards on preference benchmarks: which of them tells better responses from worse ones?

    Every reward is asked about every benchmark. The evaluation is kept in a folder with its results and a report; the
    same command again goes on where it stopped, and one with more rewards, models or benchmarks adds them.

    Examples:

      flip-reward evaluate -b pairs.jsonl -r flip -r pointwise -r longest

      flip-reward evaluate -b llmbar -b rewardbench2:Math,Focus -r flip -r listwise -m Qwen/Qwen3-4B
      --base-url http://localhost:8000/v1 --limit 200

      flip-reward evaluate recipes/paper_table.yaml -m Qwen/Qwen3-4B
    """
    check_libraries()
    wanted = Recipe(
        benchmarks=benchmark or [],
        rewards=reward or [],
        models=[RecipeModel(model=name) for name in model] if model else [RecipeModel()],
        reward=config,
        runs=runs,
        limit=limit,
        skip_bad_rows=skip_bad_rows,
    )
    if recipe is not None:
        wanted = Recipe.read(recipe).joined(wanted)
    benchmarks = [(text, _load(text, wanted, sample_seed)) for text in wanted.benchmarks]
    lineup = line_up(
        wanted.rewards,
        [one.to_engine_config(wanted.reward.engine) for one in wanted.models],
        wanted.reward,
        runs=wanted.runs,
    )
    evaluation_options = EvaluationOptions(
        limit=wanted.limit, sample_seed=sample_seed, price_prompt=price_prompt, price_completion=price_completion
    )
    evaluate_grid(
        ExperimentGrid(benchmarks, lineup, evaluation_options),
        run_folder or _default_folder([loaded for _, loaded in benchmarks]),
        concurrency=wanted.reward.engine.concurrency,
        prices=read_prices(price_prompt, price_completion),
        as_json=as_json,
    )


def _load(text: str, wanted: Recipe, sample_seed: int) -> Benchmark:
    loaded = load_benchmark(text, skip_bad_rows=wanted.skip_bad_rows)
    return loaded if wanted.limit is None else sample_items(loaded, wanted.limit, seed=sample_seed)


def _default_folder(benchmarks: list[Benchmark]) -> Path:
    """The same items find their folder again, whatever is graded on them."""
    digest = hashlib.sha256("".join(sorted(one.sha256 for one in benchmarks)).encode()).hexdigest()
    return Path("evaluations") / f"{'-'.join(one.name for one in benchmarks)[:60]}-{digest[:8]}"
