"""What the pages of the repository tell a reader to type: commands and programs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from flip_reward.cli.app import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/**/*.md")]
)
SHOWN = re.compile(r"(?:^[ \t]*(?:[A-Z_]+=\S*\s+)*|`)(flip-reward [a-z][^`\n]*)", re.MULTILINE)
ENDS = {"|", ">", ">>", "<", "&", "&&", ";", "do", "done", "..."}
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


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


def find_programs(page: Path) -> list[str]:
    """The Python blocks of a page that are programs: sessions with `>>>` are run by doctest."""
    return [program for program in PROGRAM.findall(page.read_text(encoding="utf-8")) if ">>>" not in program]
