from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from flip_reward.cli.commands.train import StepsDisplay
from flip_reward.training.common.progress import Progress

PROGRESS = Progress(3, 1200, {"tokens/s": 1234.5, "loss": 2.5, "held out": 0.25}, seconds_left=61)


@pytest.mark.parametrize("silent", [False, True])
def test_the_steps_of_a_training(*, silent: bool) -> None:
    shown = StringIO()
    display = StepsDisplay(Console(file=shown, force_terminal=True, width=160), "tuning", silent=silent)
    with display.shown():
        display.say("17 rows", warning=True)
        display.advanced(PROGRESS)
    for text in ("17 rows", "tuning", "3/1200", "0:01:01 left, 1,234 tokens/s, loss 2.500, held out 0.250"):
        assert (text in shown.getvalue()) != silent


def test_a_log_gets_no_line_for_every_step() -> None:
    shown = StringIO()
    display = StepsDisplay(Console(file=shown), "tuning")
    with display.shown():
        for _ in range(9):
            display.advanced(PROGRESS)
    assert not shown.getvalue().strip()
