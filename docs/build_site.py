"""Build the site: the pages of this folder, and the pages that are made from the code, as HTML below `build/site`.

    python docs/build_site.py          # needs the extra "docs"; no network

Pages link to files of the repository as they do on a forge; those files become pages of the site. The reference of
the commands is their own help, that of Python the docstrings. A link or an anchor that leads nowhere ends the build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import griffe

import flip_reward
from flip_reward.cli.app import COMMANDS, LazyCommands, app
from flip_reward.cli.help import build_command

ROOT = Path(__file__).parents[1]
STAGE, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
LINK = re.compile(r"(!?\[[^\]]*\]\()((?:\.\./)*[\w./-]+)(#[\w-]*)?(\))")
ROOT_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
FENCES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".jsonl": "json"}


class Stage:
    """The pages as the generator reads them."""

    def __init__(self) -> None:
        shutil.rmtree(STAGE, ignore_errors=True)
        self._taken: set[Path] = set()

    def add(self, source: Path) -> Path:
        """Add a file of the repository, with all that it links to, and return its place."""
        place = self._place(source)
        if place in self._taken:
            return place
        self._taken.add(place)
        target = STAGE / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix != ".md":
            shutil.copyfile(source, target)
            return place
        target.write_text(self._redirect(as_markdown(source), source, place), encoding="utf-8")
        return place

    def write(self, place: str, text: str) -> None:
        """Write a page that is made from the code."""
        target = STAGE / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def _place(self, source: Path) -> Path:
        inside = source.relative_to(ROOT)
        if inside.parts[0] == "docs":
            return inside.relative_to("docs")
        if str(inside) in ROOT_PAGES:
            return Path(ROOT_PAGES[str(inside)])
        if source.suffix in {".md", ".ipynb", *FENCES}:
            return Path("files", f"{inside.with_suffix('')}{source.suffix.removesuffix('.md').replace('.', '-')}.md")
        return Path("files", inside)

    def _redirect(self, text: str, source: Path, place: Path) -> str:
        """Let the links of a page lead to where its targets stand in the site."""

        def follow(found: re.Match[str]) -> str:
            target = (source.parent / found[2]).resolve()
            if target == ROOT / "README.md":
                target = ROOT / "docs" / "index.md"
            if target.is_relative_to(ROOT) and target.is_file():
                link = os.path.relpath(self.add(target), place.parent)
            else:
                link = found[2]  # the generator says so, where it leads nowhere
            return f"{found[1]}{link}{found[3] or ''}{found[4]}"

        return LINK.sub(follow, text)


class Examples(griffe.Extension):
    """Shows an `Example:` of a docstring as code; zensical.toml names this file for it."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")


def as_markdown(source: Path) -> str:
    """Return a file as a page."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".md":
        return text
    if source.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n\n".join(
            "".join(cell["source"])
            if cell["cell_type"] == "markdown"
            else f"```python\n{''.join(cell['source'])}\n```"
            for cell in cells
        )
    return f"# {source.name}\n\n```{FENCES[source.suffix]}\n{text}```\n"


def describe_commands() -> str:
    """Return the help of every command, with all options."""
    page = ["# Commands", "Each section is what `flip-reward COMMAND --help-all` prints."]
    commands = build_command(app, LazyCommands)
    for name, line in COMMANDS.items():
        page += [f"## {name}", line]
        below = getattr(commands.get_command(None, name), "commands", ())
        for words in [[name], *([name, sub] for sub in below)]:
            shown = subprocess.run(
                [sys.executable, "-m", "flip_reward", *words, "--help-all"],
                env={**os.environ, "COLUMNS": "100"},
                capture_output=True,
                text=True,
                check=True,
            )
            page.append(f"```text\n{shown.stdout.rstrip()}\n```")
    return "\n\n".join(page) + "\n"


def describe_names() -> str:
    """Return a page with the docstring of every public name."""
    page = [
        "# Python reference",
        "The public names of `flip_reward`, with [examples for each purpose](../guides/python.md).",
    ]
    return "\n\n".join([*page, *(f"::: flip_reward.{name}" for name in flip_reward.__all__ if name[0] != "_")]) + "\n"


def list_pages(stage: Path) -> str:
    """Return `llms.txt` (llmstxt.org): what there is to read, a line each."""
    lines = ["# flip-reward", "", f"> {(flip_reward.__doc__ or '').splitlines()[0]}", "", "## Docs", ""]
    for page in sorted(stage.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), page.stem)
        first = next((part for part in text.split("\n\n") if part[:1].isalpha()), "")
        lines.append(f"- [{title}]({page.relative_to(stage)}): {' '.join(first.split())}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Stage the pages and build the site."""
    stage = Stage()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        stage.add(page)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        stage.add(ROOT / name)
    stage.write("reference/commands.md", describe_commands())
    stage.write("reference/names.md", describe_names())
    stage.write("llms.txt", list_pages(STAGE))
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    failed = subprocess.run(command, cwd=ROOT, check=False).returncode
    if not failed:
        for page in STAGE.rglob("*.md"):  # as text, for whoever reads llms.txt
            shutil.copyfile(page, SITE / page.relative_to(STAGE))
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
