"""`flip-reward evaluate`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.accuracies import print_accuracies
from flip_reward.cli.commands.compare import print_comparisons
from flip_reward.cli.console import printable
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.grids import check_models, explain_unscored, run_with_progress, tell_models
from flip_reward.cli.options import (
    ENCODING,
    AsJson,
    PriceCompletion,
    PricePrompt,
    RetryRefused,
    SameModel,
    complete,
    expand_options,
)
from flip_reward.cli.session import STOPPED
from flip_reward.data.shapes import parse_columns
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError
from flip_reward.evaluation.benchmarks.base import Benchmark
from flip_reward.evaluation.benchmarks.catalogue import BENCHMARKS, load_benchmark, load_protocol
from flip_reward.evaluation.benchmarks.sampling import sample_items
from flip_reward.evaluation.folder import EvaluationOptions, open_folder
from flip_reward.evaluation.grid import ExperimentGrid, load_rewards, prepare_folder, run_grid
from flip_reward.evaluation.recipe import Recipe, RecipeModel
from flip_reward.evaluation.results import EvaluationResults, write_results
from flip_reward.evaluation.statistics import check_libraries
from flip_reward.evaluation.tabulate import tabulate
from flip_reward.report.evaluation.page import build_report
from flip_reward.rewards.config import REWARDS, RewardConfig
from flip_reward.scoring.runner import RunLimits

_GRID = "Grid"


@expand_options(without=("reward", "model", "policy_tokenizer"))
def evaluate(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE.yaml]", help="An evaluation as a file.", show_default=False)
    ] = None,
    *,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            "-b",
            help=f"{', '.join(BENCHMARKS)}; a file of preferences, such as "
            "{prompt, chosen, rejected}; or NAME=FILE for a file with its rows. ':SUBSET,SUBSET' after any of them "
            "keeps only these.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--reward",
            "-r",
            help="flip, backward-likelihood, trained, pointwise, pairwise, listwise, logit-pointwise, "
            "logit-pairwise; without a model longest, shortest, copy, constant; a formula of them, "
            "'0.5*z(flip) + 0.5*z(trained)'; or a function of yours, package.module:function.",
            autocompletion=complete(REWARDS),
            rich_help_panel=_GRID,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="As for 'score'; may be repeated. With a recipe: only these of its models.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    config: RewardConfig,
    runs: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            hidden=True,
            help="Ask everything this many times, and average.",
            rich_help_panel=_GRID,
        ),
    ] = 1,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Only this many items of each benchmark, from every subset.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    sample_seed: Annotated[
        int, typer.Option(help="Another seed takes other items.", hidden=True, rich_help_panel=_GRID)
    ] = 0,
    skip_bad_rows: Annotated[
        bool,
        typer.Option(
            "--skip-bad-rows", help="Leave out rows that cannot be used.", hidden=True, rich_help_panel=_GRID
        ),
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Your names for our columns in files: prompt=question,chosen=good,rejected=bad, or "
            "responses=answer_a+answer_b,winner=pick.",
            metavar="OURS=YOURS,...",
            rich_help_panel=_GRID,
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help=ENCODING, hidden=True, show_default=False, rich_help_panel=_GRID)
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            help="The evaluation folder: made, extended or resumed. By default below evaluations/.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    retry_refused: RetryRefused = False,
    same_model: SameModel = False,
    price_prompt: PricePrompt = None,
    price_completion: PriceCompletion = None,
    as_json: AsJson = False,
) -> None:
    """Grade rewards on preference benchmarks: which of them tells better responses from worse ones?

    Every reward is run on every benchmark, and the one with the highest length-balanced accuracy is shown first: the
    mean of the accuracies where the better response is longer and where it is shorter. The evaluation is kept in a
    folder with its results and a report. The same command again goes on where it stopped; with more rewards, models
    or benchmarks, it adds them.

    Examples:

      flip-reward evaluate -b pairs.jsonl -r flip -r pointwise -r longest

      flip-reward evaluate -b llmbar -b rewardbench2:Math,Focus -r flip -r listwise -m Qwen/Qwen3-4B
      --base-url http://localhost:8000/v1 --limit 200

      flip-reward evaluate recipes/paper_table.yaml -m Qwen/Qwen3-4B
    """
    _refuse_rows(recipe)
    check_libraries()
    wanted = Recipe(
        benchmarks=benchmark or [],
        rewards=reward or [],
        models=[RecipeModel(model=name) for name in model] if model else [RecipeModel()],
        reward=config,
        runs=runs,
        limit=limit,
        skip_bad_rows=skip_bad_rows,
        columns=parse_columns(columns) if columns else {},
        encoding=encoding,
    )
    if recipe is not None:
        wanted = Recipe.read(recipe).joined(wanted)
    for kind, named, example in (
        ("benchmark", wanted.benchmarks, "-b pairs.jsonl"),
        ("reward", wanted.rewards, "-r flip"),
    ):
        if not named:
            raise OptionError(f"name at least one {kind}", hint=f"for example {example}")
    check_models(wanted.rewards, model)
    benchmarks = [(text, _load(text, wanted, sample_seed)) for text in wanted.benchmarks]
    rewards = load_rewards(
        wanted.rewards,
        [one.to_engine_config(wanted.reward.engine) for one in wanted.models],
        wanted.reward,
        runs=wanted.runs,
    )
    tell_models(rewards)
    evaluation_options = EvaluationOptions(
        limit=wanted.limit, sample_seed=sample_seed, price_prompt=price_prompt, price_completion=price_completion
    )
    _evaluate_grid(
        ExperimentGrid(benchmarks, rewards, evaluation_options),
        run_folder or _default_folder([loaded for _, loaded in benchmarks]),
        RunLimits(wanted.reward.engine.requests_at_once, retry_refused=retry_refused, same_model=same_model),
        as_json=as_json,
    )


def _refuse_rows(recipe: Path | None) -> None:
    """Point the right way where a benchmark was given as a recipe."""
    if recipe is not None and recipe.suffix.lower() not in (".yaml", ".yml"):
        if str(recipe) in REWARDS:
            raise OptionError(f"{recipe} is a reward, not a recipe", hint=f"choose it with -r {recipe}")
        raise OptionError(
            f"{recipe} is not a recipe, which is a .yaml file",
            hint=f"a benchmark or a file of preferences goes after -b: flip-reward evaluate -b {recipe}",
        )


def _load(text: str, wanted: Recipe, sample_seed: int) -> Benchmark:
    loaded = load_benchmark(
        text, skip_bad_rows=wanted.skip_bad_rows, columns=wanted.columns, encoding=wanted.encoding
    )
    return loaded if wanted.limit is None else sample_items(loaded, wanted.limit, seed=sample_seed)


def _default_folder(benchmarks: list[Benchmark]) -> Path:
    """The same items find their folder again, whatever is graded on them."""
    digest = hashlib.sha256("".join(sorted(one.sha256 for one in benchmarks)).encode()).hexdigest()
    return Path("evaluations") / f"{'-'.join(one.name for one in benchmarks)[:60]}-{digest[:8]}"


def _evaluate_grid(grid: ExperimentGrid, folder: Path, limits: RunLimits, *, as_json: bool) -> None:
    """Evaluate with a progress bar for every run, write the results and the report, and show the results."""
    console = Console(stderr=True)
    for _, benchmark in grid.benchmarks:
        _warn(console, benchmark)
    stop = StopSignal()
    with open_folder(folder):
        prepare_folder(folder, grid)
        try:
            complete = run_with_progress(
                folder,
                lambda display, stop: run_grid(folder, grid, display, limits=limits, stop=stop),
                console,
                stop,
                name="Evaluation",
                unit="items",
            )
        finally:
            data = tabulate(folder)
            write_results(folder, data.results)
            report = build_report(folder, data)
    if as_json:
        typer.echo(data.results.model_dump_json(indent=2))
    else:
        _print_results(Console(), data.results, folder)
    places = console if as_json else Console()
    for line in (f"Evaluation folder: {folder}", f"Report: {report}"):
        places.print(Text(line), soft_wrap=True)
    if stop.requested:
        console.print(STOPPED)
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not complete:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _warn(console: Console, benchmark: Benchmark) -> None:
    warnings = []
    if benchmark.read_as:
        typer.echo(f"{benchmark.name}: read as {benchmark.read_as}", err=True)
    if benchmark.shared_prompts:
        typer.echo(
            f"{benchmark.name}: {benchmark.shared_prompts} of {len(benchmark.items)} items share their prompt with "
            "another; intervals and tests count them as one draw",
            err=True,
        )
    if benchmark.bad_rows:
        warnings.append(
            f"left out {len(benchmark.bad_rows)} row{'s' * (len(benchmark.bad_rows) != 1)} that cannot be used"
        )
    missing = load_protocol(benchmark.protocol).describe_missing(benchmark.subsets)
    if missing is not None:
        warnings.append(missing)
    for warning in warnings:
        console.print(Text(f"{benchmark.name}: {warning}", style="yellow"))


def _print_results(console: Console, results: EvaluationResults, folder: Path) -> None:
    """Print a table for every benchmark, why responses are unscored, and the comparisons."""
    for benchmark in results.benchmarks:
        cells = [cell for cell in results.cells if cell.benchmark == benchmark.name]
        if not cells:
            continue
        print_accuracies(console, benchmark, cells)
        for cell in cells:
            if cell.overall.unscored_items:
                why = explain_unscored(cell.outcomes, folder / cell.folder)
                console.print(printable(f"{cell.reward}: {why}"), soft_wrap=True)
    print_comparisons(console, results.comparisons)
