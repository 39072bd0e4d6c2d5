"""The table, the progress and the summary, at the width of a terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from flip_reward.cli.console import ProgressDisplay, print_records, print_summary
from flip_reward.core.score import Outcome, Score
from flip_reward.data.rows import InvalidRow
from flip_reward.scoring.records import Record
from flip_reward.scoring.summary import Tally

SCORED = Score(0.5, Outcome.SCORED, inferred_instruction="What is [bold]inferred[/bold]?")


def terminal(width: int = 80) -> tuple[Console, StringIO]:
    shown = StringIO()
    return Console(file=shown, force_terminal=True, color_system=None, width=width), shown


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_keeps_groups_together_and_fits(width: int) -> None:
    console, shown = terminal(width)
    unscored = [Score(None, outcome) for outcome in Outcome if outcome is not Outcome.SCORED]
    scores = [SCORED, *unscored]
    records = [Record(3, "fruits", len(scores), i, "Name some fruits.", score) for i, score in enumerate(scores)]
    records.append(Record(4, "row-4", 1, 0, "Say hi.", SCORED))
    print_records(console, records, {3: [f"apple{i}" for i in range(len(scores))], 4: ["Hi\x1b[2J there."]})
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(shown.getvalue().split())
    assert text.count("Name some") == 1, "once for the group"
    for part in ("fruits#0", "apple0", "[bold]", "0.500", "unfinished", "row-4", "Hi"):
        assert part in text
    assert "\x1b[2J" not in text


def test_a_reward_that_explains_nothing_has_no_column_for_it() -> None:
    console, shown = terminal()
    records = [Record(0, "fruits", 2, i, "Name some fruits.", Score(7.0 + i, Outcome.SCORED)) for i in range(2)]
    print_records(console, records, {0: ["A pear.", "A plum.."]})
    assert "inferred" not in shown.getvalue()
    assert "8.000" in shown.getvalue()


def test_progress_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console, shown = terminal()
    display = ProgressDisplay(console, rows=100_000)
    with display.shown():
        for _ in range(40):
            display.scored((SCORED, Score(None, Outcome.UNFINISHED_THINKING)))
        display.rejected(InvalidRow(1, 2, "no response", "rows.jsonl"))
    lines = shown.getvalue().replace("\x1b[2K", "\n").splitlines()
    assert "Rejected rows.jsonl, line 2: no response" in lines
    assert max(map(len, lines)) <= 80
    last = next(line for line in reversed(lines) if "scoring" in line)
    assert "41/100000" in last
    assert "mean 0.500, 40 unscored, 1 rejected" in last


def test_no_bar_where_only_colours_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = StringIO()
    display = ProgressDisplay(Console(file=shown), rows=2)
    with display.shown():
        display.scored((SCORED,))
        display.say("Stopping.")
    assert shown.getvalue() == "Stopping.\n"


@pytest.mark.parametrize(
    ("scores", "rejected", "said"),
    [
        ([], 3, "Nothing was scored: 3 rows rejected"),
        ([], 1, "Nothing was scored: 1 row rejected"),
        ([Score(None, Outcome.EMPTY_REPLY)] * 2, 1, "Nothing was scored: 2 empty_reply; 1 row rejected"),
        ([SCORED, Score(None, Outcome.EMPTY_REPLY)], 0, "1 of 2 responses scored (1 empty_reply)"),
    ],
)
def test_the_summary_says_when_there_is_nothing(scores: list[Score], rejected: int, said: str) -> None:
    tally = Tally()
    for score in scores:
        tally.add(score)
    console, shown = terminal()
    print_summary(console, tally.summarise(complete=True, rejected_rows=rejected, resumed_responses=0, seconds=1.0))
    assert shown.getvalue().splitlines()[0] == said
