"""`flip-reward train`, `flip-reward tune-inferrer` and `flip-reward export-adapter`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as ProgressBar
from rich.table import Column
from rich.text import Text

from flip_reward.cli.console import can_redraw
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.engines.lora.export import export_adapter as export
from flip_reward.engines.stopping import StopSignal
from flip_reward.training.common.folder import AlarmEnd, OnAlarm
from flip_reward.training.common.progress import Progress
from flip_reward.training.grpo.recipe import GrpoRecipe
from flip_reward.training.grpo.train import train_grpo
from flip_reward.training.inferrer.recipe import InferrerRecipe
from flip_reward.training.inferrer.tune import tune_inferrer as tune

_LINE_EVERY_SECONDS = 10.0

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the recipe.", show_default=False),
]

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="The folder, made or resumed. By default that of the recipe, or one below trained/ or tuned/.",
        show_default=False,
    ),
]


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, on what, with which reward.")],
    overrides: Overrides = None,
    output: Output = None,
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
    stop = StopSignal()
    display = StepsDisplay(Console(stderr=True), "training", silent=os.environ.get("RANK", "0") != "0")
    with display.shown(), stop_after_step(stop, display.say):
        manifest = train_grpo(wanted, folder, observer=display, stop=stop)
    outcome = manifest.outcome
    if manifest.ended_by is not None and outcome is None:
        display.say(_tell_end(manifest.ended_by))
        raise typer.Exit(ExitCode.THRESHOLD_PASSED)
    if outcome is None:
        display.say("Stopped. The same command goes on from here.")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if outcome.held_out_reward is not None and outcome.held_out_reward_before is not None:
        rewards = f"{outcome.held_out_reward_before:.3f} before, {outcome.held_out_reward:.3f} now"
        display.print(f"Reward of held-out prompts: {rewards}")
    display.print(f"Trained policy: {folder / 'model'}")
    display.print(f"Curves and samples: flip-reward report {folder}")


def _tell_end(end: AlarmEnd) -> str:
    if end.action is OnAlarm.PAUSE:
        return f"Paused after step {end.step} by the alarm. The same command goes on from here."
    return (
        f"Stopped after step {end.step} by an alarm ({end.message}). The checkpoint is kept; "
        "on_alarm=warn goes on from it."
    )


def tune_inferrer(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to tune, on what and how.")],
    overrides: Overrides = None,
    output: Output = None,
) -> None:
    """Tune a small model to infer instructions from responses.

    Use the tuned model with '--model transformers:FOLDER'; it is asked with the template of the recipe. The same
    command again resumes where it stopped.

    Examples:

      flip-reward tune-inferrer recipes/tune_inferrer_cpu.yaml data_folder=data -o tuned/small

      flip-reward tune-inferrer recipes/tune_inferrer_gpu.yaml model=Qwen/Qwen3-0.6B sft.learning_rate=1e-4
    """
    wanted = InferrerRecipe.read(recipe, overrides or [])
    folder = output or wanted.output or Path("tuned") / recipe.stem
    stop = StopSignal()
    display = StepsDisplay(Console(stderr=True), "tuning")
    with display.shown(), stop_after_step(stop, display.say):
        manifest = tune(wanted, folder, observer=display, stop=stop)
    outcome = manifest.outcome
    if outcome is None:
        display.say("Stopped. The same command goes on from here.")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if outcome.held_out_loss is not None and outcome.held_out_loss_before is not None:
        losses = f"{outcome.held_out_loss_before:.3f} before, {outcome.held_out_loss:.3f} now"
        display.print(f"Loss on held-out rows: {losses}")
    display.print(f"Tuned model: {folder}")
    display.print(f"Use it: --model transformers:{folder} --reward backward-likelihood {_name_template(wanted)}")


def _name_template(recipe: InferrerRecipe) -> str:
    """Return the options with which scoring prompts the model as it was tuned."""
    if recipe.template_dir is None:
        options = f"--template {recipe.load_completion_prompt().template.name}"
    else:
        options = f"--template-dir {recipe.template_dir}" + (
            f" --template {recipe.template}" if recipe.template else ""
        )
    return options + (" --no-thinking" if recipe.no_thinking else "")


def export_adapter(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="A LoRA adapter as PEFT saves it; MODEL+FOLDER names its model.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file. By default adapter.gguf in the folder.", show_default=False),
    ] = None,
) -> None:
    """Write a LoRA adapter as a GGUF file, which llama.cpp loads.

    'flip-reward tune-inferrer' already does so; this is for adapters from elsewhere. Use one with
    '--model MODEL.gguf+FILE', where MODEL.gguf is its base model, quantised or not.

    Examples:

      flip-reward export-adapter tuned/mine

      flip-reward export-adapter Qwen/Qwen3-0.6B+adapters/mine -o mine.gguf
    """
    file = export(folder, output)
    Console().print(Text(f"Adapter: {file} ({file.stat().st_size / 1e6:.1f} MB)"), soft_wrap=True)


class StepsDisplay:
    """Shows how the steps of a training go: a bar on a terminal, otherwise a line every ten seconds.

    It is `silent` in all processes but the first.
    """

    def __init__(self, console: Console, work: str, *, silent: bool = False) -> None:
        self._console, self._silent = console, silent
        self._last_line = time.monotonic()
        self._bar = ProgressBar(
            TextColumn(work),
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=40)),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            expand=True,
            disable=silent or not can_redraw(console),
            refresh_per_second=2,
        )
        self._task = self._bar.add_task(work, total=None, state="", visible=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it while the block runs."""
        with self._bar:
            yield

    def say(self, message: str, *, warning: bool = False) -> None:
        """Print a line above the bar."""
        if not self._silent:
            self._bar.console.print(Text(message, style="yellow" if warning else ""), soft_wrap=True)

    def print(self, result: str) -> None:
        """Print a line of the result, to standard output."""
        if not self._silent:
            Console().print(Text(result), soft_wrap=True)

    def advanced(self, progress: Progress) -> None:
        """Move the bar."""
        left = progress.seconds_left
        parts = [] if left is None else [f"{timedelta(seconds=round(left))} left"]
        for name, value in progress.figures.items():
            parts.append(f"{value:,.0f} {name}" if name.endswith("/s") else f"{name} {value:.3f}")
        shown = ", ".join(parts)
        if can_redraw(self._console):
            self._bar.update(self._task, total=progress.steps, completed=progress.step, state=shown, visible=True)
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            self.say(f"Step {progress.step:,} of {progress.steps:,}{', ' if shown else ''}{shown}")


@contextmanager
def stop_after_step(stop: StopSignal, tell: Callable[[str], None]) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop; the second ends the process at once."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        restore()
        stop.requested = True
        tell("Stopping after this step. Press Ctrl-C again to stop at once.")

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()
