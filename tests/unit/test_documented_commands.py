"""Every command that a page shows is one that the command line takes: nothing runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from flip_reward.cli.app import LazyCommands, app
from flip_reward.cli.help import build_command
from tests.pages import PAGES, ROOT, find_commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_command_line_takes_what_a_page_shows(page: Path) -> None:
    group = build_command(app, LazyCommands)
    for words in find_commands(page):
        try:
            group.main([*words, "--help"], prog_name="flip-reward", standalone_mode=False)
        except Exception as error:  # noqa: BLE001 - click's errors, which typer hides
            pytest.fail(f"flip-reward {shlex.join(words)}: {error}")


def test_there_are_commands_to_read() -> None:
    assert len(find_commands(ROOT / "README.md")) > 8
