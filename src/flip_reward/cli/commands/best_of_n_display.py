"""What a person sees of best of N: candidates being drawn, and the choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flip_reward.cli.console import ProgressDisplay, shorten
from flip_reward.core.score import Usage
from flip_reward.selection.candidates import Candidate, DrawnGroup
from flip_reward.selection.results import Result, Tally


class DrawingDisplay(ProgressDisplay):
    """Shows the progress of candidates being drawn."""

    def __init__(self, console: Console, *, rows: int | None, settled_rows: int) -> None:
        super().__init__(console, rows=rows, settled_rows=settled_rows, what="generating")
        self._candidates = 0
        self._notable: Counter[str] = Counter()
        self._usage = Usage()

    def drawn(self, candidate: Candidate) -> None:
        """Count a candidate."""
        self._candidates += 1
        self._usage += candidate.usage
        if candidate.failure is not None:
            self._notable[candidate.failure.value] += 1
        elif candidate.truncated:
            self._notable["truncated"] += 1

    def row_drawn(self) -> None:
        """Count a row."""
        self._advance()

    def describe(self, *, found: int) -> str:
        """Say what came of it.

        Args:
            found: How many candidates were there before.
        """
        line = f"Generated: {self._state()}"
        if found:
            line += f"; {found} taken from an earlier session"
        return f"{line}. Tokens: {self._usage.prompt_tokens:,} prompt, {self._usage.completion_tokens:,} completion"

    def _state(self) -> str:
        notable = ", ".join(f"{count} {name}" for name, count in self._notable.most_common())
        return f"{self._candidates} responses" + (f" ({notable})" if notable else "")


def print_results(console: Console, results: Iterable[Result]) -> None:
    """Print a table of choices. Their texts come from models and are shown as they are, never as markup."""
    table = Table(expand=True)
    table.add_column("instruction", ratio=3, overflow="fold")
    table.add_column("chosen response", ratio=4, overflow="fold")
    table.add_column("reward", justify="right", width=6)
    table.add_column("scored", justify="right", width=6)
    table.add_column("note", ratio=2, overflow="fold")
    for result in results:
        selection = result.selection
        value = None if selection.index is None else result.scores[selection.index].value
        table.add_row(
            shorten(result.instruction),
            shorten(selection.response or ""),
            Text("" if value is None else f"{value:.3f}"),
            Text(f"{len(result.scores) - selection.unscored}/{len(result.scores)}"),
            Text(_note(result), style="yellow" if selection.index is None else ""),
        )
    console.print(table)


def _note(result: Result) -> str:
    selection = result.selection
    if selection.index is None:
        return selection.reason or ""
    notes = [f"{result.tie_rule} of {len(selection.tied)} tied"] if selection.tied else []
    if len(result.scores) == 1:
        notes.append("the only response")
    if isinstance(result.group, DrawnGroup) and result.group.candidates[selection.index].truncated:
        notes.append("truncated")
    return ", ".join(notes)


def describe(tally: Tally, rule: str) -> str:
    """Say in how many rows a response was chosen.

    Example:
        >>> describe(Tally(rows=4, tied=2, single=1, undecided=1), "first")
        '3 of 4 rows decided (2 ties by the rule first; 1 with a single response, chosen as it is); 1 undecided'
    """
    remarks = []
    if tally.tied:
        remarks.append(f"{tally.tied} {'tie' if tally.tied == 1 else 'ties'} by the rule {rule}")
    if tally.single:
        remarks.append(f"{tally.single} with a single response, chosen as it is")
    line = f"{tally.decided} of {tally.rows} rows decided" + (f" ({'; '.join(remarks)})" if remarks else "")
    return line + (f"; {tally.undecided} undecided" if tally.undecided else "")
