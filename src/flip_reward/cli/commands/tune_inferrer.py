"""`flip-reward tune-inferrer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.console import StepsDisplay, stop_after_step
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.scoring.runner import StopSignal
from flip_reward.training.inferrer.recipe import InferrerRecipe
from flip_reward.training.inferrer.tune import tune_inferrer as tune


def tune_inferrer(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to tune, on what and how.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the recipe.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder of the tuned model, made or resumed. By default that of the recipe, or below tuned/.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Tune a small model to infer instructions from responses.

    Use the tuned model with '--model transformers:FOLDER' and the template of the recipe as '--template'. The same
    command again resumes where it stopped.

    Examples:

      flip-reward tune-inferrer recipes/tune_inferrer_cpu.yaml data_folder=data -o tuned/small

      flip-reward tune-inferrer recipes/tune_inferrer_gpu.yaml model=Qwen/Qwen3-0.6B sft.learning_rate=1e-4
    """
    wanted = InferrerRecipe.read(recipe, overrides or [])
    folder = output or wanted.output or Path("tuned") / recipe.stem
    console = Console()
    stop = StopSignal()
    display = StepsDisplay(console, "tuning")
    with display.shown(), stop_after_step(stop, display.say):
        manifest = tune(wanted, folder, observer=display, stop=stop)
    outcome = manifest.outcome
    if outcome is None:
        console.print("Stopped. The same command goes on from here.")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if outcome.held_out_loss is not None and outcome.held_out_loss_before is not None:
        losses = f"{outcome.held_out_loss_before:.3f} before, {outcome.held_out_loss:.3f} now"
        console.print(Text(f"Loss on held-out rows: {losses}"))
    console.print(Text(f"Tuned model: {folder}"), soft_wrap=True)
    console.print(
        Text(f"Use it: --model transformers:{folder} --reward backward-likelihood {_name_template(wanted)}"),
        soft_wrap=True,
    )


def _name_template(recipe: InferrerRecipe) -> str:
    """Return the options with which scoring prompts the model as it was tuned."""
    if recipe.template_dir is None:
        options = f"--template {recipe.load_completion_prompt().template.name}"
    else:
        options = f"--template-dir {recipe.template_dir}" + (
            f" --template {recipe.template}" if recipe.template else ""
        )
    return options + (" --no-thinking" if recipe.no_thinking else "")
