"""What a person sees of a training: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from flip_reward.training.grpo_progress import GrpoProgress

_LINE_EVERY_SECONDS = 10.0


class TrainDisplay:
    """Shows how a training goes.

    Args:
        console: Where.
        silent: Show nothing: for all processes of a training but the first.
    """

    def __init__(self, console: Console, *, silent: bool = False) -> None:
        self._console, self._silent = console, silent
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            transient=True,
            disable=silent or not console.is_terminal,
            refresh_per_second=2,
        )
        self._task = self._bar.add_task("training", total=None, state="", visible=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it while the block runs."""
        with self._bar:
            yield

    def say(self, message: str, *, warning: bool = False) -> None:
        """Print a line above the bar."""
        if not self._silent:
            self._bar.console.print(Text(message, style="yellow" if warning else ""), soft_wrap=True)

    def advanced(self, progress: GrpoProgress) -> None:
        """Move the bar."""
        state = _describe(progress)
        if self._console.is_terminal:
            self._bar.update(self._task, total=progress.steps, completed=progress.step, state=state, visible=True)
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            self.say(f"Step {progress.step:,} of {progress.steps:,}{', ' if state else ''}{state}")


def _describe(progress: GrpoProgress) -> str:
    parts = []
    if progress.seconds_left is not None:
        parts.append(f"{timedelta(seconds=round(progress.seconds_left))} left")
    if progress.reward is not None:
        parts.append(f"reward {progress.reward:.3f}")
    if progress.held_out_reward is not None:
        parts.append(f"held out {progress.held_out_reward:.3f}")
    return ", ".join(parts)
