"""Every command that a page shows is one that the command line takes: nothing runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from flip_reward.cli.app import COMMANDS, LazyCommands, app
from flip_reward.cli.help import build_command

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/**/*.md")]
)
SHOWN = re.compile(r"(?:^[ \t]*(?:[A-Z_]+=\S*\s+)*|`)(flip-reward [a-z][^`\n]*)", re.MULTILINE)
ENDS = {"|", ">", ">>", "&", "&&", ";", "do", "done", "..."}


def find_commands(page: Path) -> list[list[str]]:
    """The commands of a page, as lists of words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for shown in SHOWN.findall(text):
        if "$" in shown or "[" in shown:  # of a loop, or a form and not a command
            continue
        words = shlex.split(shown, comments=True)[1:]
        end = next(
            (place for place, word in enumerate(words) if word.rstrip(";") in ENDS or word.endswith(";")), None
        )
        if words and words[0] in COMMANDS:
            found.append(words[:end])
    return found


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
