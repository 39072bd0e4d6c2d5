"""`flip-reward train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flip_reward.cli.console import StepsDisplay, stop_after_step
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.scoring.runner import StopSignal
from flip_reward.training.grpo.recipe import GrpoRecipe
from flip_reward.training.grpo.train import train_grpo


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, on what, with which reward.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the recipe.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder of the training, made or resumed. By default that of the recipe, or below trained/.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a policy with GRPO on FLIP, or on a judge, with TRL.

    The section grpo of a recipe holds the fields of TRL's GRPOConfig. The same command again resumes where it
    stopped. On several GPUs, start it with accelerate.

    Examples:

      flip-reward train recipes/grpo_flip_cpu.yaml data.source=prompts.jsonl -o trained/small

      flip-reward train recipes/grpo_flip.yaml reward.base_url=http://judge:8000/v1 grpo.learning_rate=2e-6

      accelerate launch --config_file recipes/accelerate/one_node_zero3.yaml $(which flip-reward) train RECIPE.yaml
    """
    wanted = GrpoRecipe.read(recipe, overrides or [])
    folder = output or wanted.output or Path("trained") / recipe.stem
    console = Console()
    stop = StopSignal()
    display = StepsDisplay(console, "training", silent=os.environ.get("RANK", "0") != "0")
    with display.shown(), stop_after_step(stop, display.say):
        manifest = train_grpo(wanted, folder, observer=display, stop=stop)
    outcome = manifest.outcome
    if outcome is None:
        display.say("Stopped. The same command goes on from here.")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if outcome.held_out_reward is not None and outcome.held_out_reward_before is not None:
        rewards = f"{outcome.held_out_reward_before:.3f} before, {outcome.held_out_reward:.3f} now"
        display.say(f"Reward of held-out prompts: {rewards}")
    display.say(f"Trained policy: {folder / 'model'}")
    display.say(f"Curves and samples: flip-reward report {folder}")
