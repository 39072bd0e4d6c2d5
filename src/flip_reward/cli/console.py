"""What a person sees of a run: its progress, the table of results, the closing summary; and what Ctrl-C does."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from flip_reward.core.score import Outcome, Score
from flip_reward.data.rows import InvalidRow
from flip_reward.engines.stopping import StopSignal
from flip_reward.scoring.records import Record
from flip_reward.scoring.summary import Summary

T = TypeVar("T")

_LINE_EVERY_SECONDS = 10.0
_LONGEST_CELL = 90
_OUTCOME_WIDTH = max(len(word) for outcome in Outcome for word in outcome.split("_"))
_MOST_REJECTED_SHOWN = 5


def can_redraw(console: Console) -> bool:
    """Whether a line can be drawn again. FORCE_COLOR, which notebooks and CI set, asks for colours alone."""
    return console.is_terminal and (console.file.isatty() or "FORCE_COLOR" not in os.environ)


class ProgressDisplay:
    """Shows a run's progress: a bar on a terminal, a plain line every ten seconds otherwise."""

    def __init__(self, console: Console, *, rows: int | None, completed_rows: int = 0, what: str = "scoring") -> None:
        self._console = console
        self._rows = rows
        self._completed_rows = self._rows_done = completed_rows
        self._started = self._last_line = time.monotonic()
        self._outcomes: Counter[Outcome] = Counter()
        self._rejected = 0
        self._sum = 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=40)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            expand=True,
            disable=not can_redraw(console),
            refresh_per_second=5,
        )
        self._task: TaskID = self._bar.add_task(what, total=rows, completed=completed_rows, state="")

    @contextmanager
    def shown(self) -> Iterator[ProgressDisplay]:
        """Show it while the block runs."""
        with self._bar:
            yield self

    def scored(self, scores: tuple[Score, ...]) -> None:
        """Count recorded responses."""
        for score in scores:
            self._outcomes[score.outcome] += 1
            self._sum += score.value or 0.0
        self._advance()

    def rejected(self, row: InvalidRow) -> None:
        """Count a row that could not be read, and show the first few."""
        self._rejected += 1
        if self._rejected <= _MOST_REJECTED_SHOWN:
            self.say(f"Rejected {row.source}, line {row.line}: {row.reason}", style="yellow")
        self._advance()

    def say(self, message: str, *, style: str = "") -> None:
        """Print a line above the bar."""
        self._bar.console.print(Text(message, style=style), soft_wrap=True)

    def _advance(self) -> None:
        self._rows_done += 1
        if can_redraw(self._console):
            self._bar.update(self._task, advance=1, state=self._short_state())
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            self.say(f"{self._rows_done:,} rows{self._what_is_left(now)}: {self._state()}")

    def _what_is_left(self, now: float) -> str:
        if not self._rows or self._rows <= self._rows_done:
            return ""
        seconds = (now - self._started) / (self._rows_done - self._completed_rows) * (self._rows - self._rows_done)
        return f" of {self._rows:,}, {timedelta(seconds=round(seconds))} left"

    def _short_state(self) -> str:
        """Say how it goes in what a line of 80 columns has left."""
        unscored = self._outcomes.total() - self._outcomes[Outcome.SCORED]
        parts = self._speed_and_mean()
        if unscored:
            parts.append(f"{unscored} unscored")
        if self._rejected:
            parts.append(f"{self._rejected} rejected")
        return ", ".join(parts)

    def _speed_and_mean(self) -> list[str]:
        responses, scored = self._outcomes.total(), self._outcomes[Outcome.SCORED]
        speed = responses / max(time.monotonic() - self._started, 1e-9)
        shown = f"{speed:.{0 if speed >= 100 else 1}f}/s"
        return [shown, f"mean {self._sum / scored:.3f}"] if scored else [shown]

    def _state(self) -> str:
        parts = self._speed_and_mean()
        parts += [f"{count} {outcome}" for outcome, count in self._outcomes.items() if outcome is not Outcome.SCORED]
        if self._rejected:
            parts.append(f"{self._rejected} rejected")
        return ", ".join(parts)


def print_records(
    console: Console, records: Sequence[Record], responses: Mapping[int, Sequence[str]], *, judged: bool = False
) -> None:
    """Print a table of records. Their texts come from models and are shown as they are, never as markup.

    Args:
        console: Where to print.
        records: What was recorded, the responses of a group one after the other.
        responses: The texts of the responses, by the place of their row.
        judged: Show the explanation of a judge in place of an inferred instruction. Where a reward gives neither, as
            controls do, there is no such column.
    """
    reasons = [(one.score.reasoning if judged else one.score.inferred_instruction) or "" for one in records]
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("id", ratio=3, overflow="fold")
    table.add_column("instruction", ratio=6, overflow="fold")
    table.add_column("response", ratio=6, overflow="fold")
    if any(reasons):
        table.add_column("verdict" if judged else "inferred instruction", ratio=6, overflow="fold")
    table.add_column("reward", width=_OUTCOME_WIDTH, justify="right")
    row = None
    for record, reason in zip(records, reasons, strict=True):
        score, texts = record.score, responses.get(record.row, ())
        if record.row != row and row is not None:
            table.add_section()
        table.add_row(
            shorten(record.id),
            Text() if record.row == row else shorten(record.instruction),
            shorten(texts[record.response_index] if record.response_index < len(texts) else ""),
            *([shorten(reason)] if any(reasons) else []),
            show_reward(score),
        )
        row = record.row
    console.print(table)


def show_reward(score: Score) -> Text:
    """Return the reward as a cell of a table shows it, or the outcome where there is none."""
    if score.value is None:
        return Text(score.outcome.replace("_", " "), style="yellow")
    return Text(f"{score.value:.3f}")


def printable(text: str) -> Text:
    """Return text that is safe on a terminal: without markup or control characters."""
    return Text("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text))


def shorten(text: str) -> Text:
    """Return the beginning of a text as one line of a table's cell, without characters that steer a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _LONGEST_CELL]).split())
    return Text(line if len(line) <= _LONGEST_CELL else line[: _LONGEST_CELL - 1] + "…")


def print_summary(console: Console, summary: Summary) -> None:
    """Print the closing summary."""
    lines = [_counts(summary)]
    lines += [f"{outcome}, such as: {detail}" for outcome, detail in summary.details.items()]
    if summary.rewards is not None:
        quartiles = summary.rewards
        lines.append(
            f"Reward: mean {quartiles.mean:.3f}, quartiles {quartiles.first_quartile:.3f} "
            f"{quartiles.median:.3f} {quartiles.third_quartile:.3f}, "
            f"from {quartiles.minimum:.3f} to {quartiles.maximum:.3f}"
        )
    tokens = f"Tokens: {summary.prompt_tokens:,} prompt, {summary.completion_tokens:,} completion"
    lines.append(tokens if summary.cost is None else f"{tokens}; cost {summary.cost:,.4f}")
    speed = f"Speed: {summary.rewards_per_second:,.1f} rewards/s over {summary.seconds:,.1f} s"
    if summary.answered_from_cache:
        speed += f", {summary.answered_from_cache} answered from the cache or by an identical request"
    if summary.resumed_responses:
        speed += f", {summary.resumed_responses} taken from an earlier session"
    asked = summary.resumed_responses < summary.responses or not summary.resumed_responses
    lines.append(speed if asked else f"Nothing was asked: {summary.resumed_responses} taken from an earlier session")
    for line in lines:
        console.print(printable(line), soft_wrap=True)


def _counts(summary: Summary) -> str:
    unscored = [f"{count} {name}" for name, count in summary.outcomes.items() if name != Outcome.SCORED.value]
    if not summary.responses and not summary.rejected_rows:
        return "There was no row to score"
    if not summary.responses:
        return f"Nothing was scored: {_count(summary.rejected_rows, 'row')} rejected"
    if not summary.scored_any:
        line = "Nothing was scored: " + ", ".join(unscored)
    else:
        line = f"{summary.responses - summary.unscored} of {summary.responses} responses scored"
        line += f" ({', '.join(unscored)})" if unscored else ""
    if summary.cautions:
        line += "; low confidence: " + ", ".join(f"{count} {name}" for name, count in summary.cautions.items())
    if summary.rejected_rows:
        line += f"; {_count(summary.rejected_rows, 'row')} rejected"
    if summary.limit is not None:
        line += f"; only the first {summary.limit:,} rows were read (--limit)"
    return line


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def run_in_event_loop(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine to its end, on uvloop where it is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work())


@contextmanager
def drain_on_interrupt(stop: StopSignal, tell: Callable[[str], None]) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop, and the second into a cancellation of this task.

    Call it from the task to be cancelled. Where the event loop has not heard of the first one yet, because a function
    of the user's holds it up, the second interrupts that.
    """
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    heard = True

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        if not heard:
            raise KeyboardInterrupt
        heard = False
        loop.call_soon_threadsafe(cancel if stop.requested else announce)
        stop.requested = True

    def cancel() -> None:
        nonlocal heard
        heard = True
        if task is not None:
            task.cancel()

    def announce() -> None:
        nonlocal heard
        heard = True
        count = stop.in_flight
        left = f": finishing {count} request{'' if count == 1 else 's'}" if count else ""
        tell(f"Stopping{left}. Press Ctrl-C again to stop at once.")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
