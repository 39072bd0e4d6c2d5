"""What a person sees of work in steps: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_LINE_EVERY_SECONDS = 10.0


class StepsDisplay:
    """Shows how the steps go.

    Args:
        console: Where.
        work: What is being done, in a word.
        silent: Show nothing: for all processes but the first.
    """

    def __init__(self, console: Console, work: str, *, silent: bool = False) -> None:
        self._console, self._silent = console, silent
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn(work),
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

    def _move(self, step: int, steps: int, seconds_left: float | None, state: Sequence[str]) -> None:
        left = [] if seconds_left is None else [f"{timedelta(seconds=round(seconds_left))} left"]
        shown = ", ".join([*left, *state])
        if self._console.is_terminal:
            self._bar.update(self._task, total=steps, completed=step, state=shown, visible=True)
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            self.say(f"Step {step:,} of {steps:,}{', ' if shown else ''}{shown}")
