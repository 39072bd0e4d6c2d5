"""Make the pictures: a terminal that scores the example responses, the page of that run, the README and the site.

    make docs && python docs/record.py     # needs the extra "dev", the embedded model and Chromium

They are made of what the commands print and write now.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from markdown_it import MarkdownIt
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "docs" / "assets"
COLUMNS = 110
STYLE = "body { max-width: 60rem; margin: 2rem auto; font: 16px/1.5 sans-serif } img { max-width: 100% }"
COMMAND = "flip-reward score responses.jsonl --limit 2 --max-tokens 64 --table"


def run(command: str, folder: Path) -> str:
    """Run a command as in a terminal, and return what it prints, colours and all."""
    environment = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "FORCE_COLOR": "1",
        "FLIP_REWARD_CACHE": "off",
        "PYTHONPATH": str(folder),
    }
    words = [sys.executable, "-m", *command.replace("flip-reward", "flip_reward").split()]
    finished = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return finished.stdout


def draw_terminal(command: str, printed: str, path: Path) -> None:
    """Write what a command printed as an SVG that asks nobody for a font."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text.from_ansi(printed))
        drawn = console.export_svg(title="flip-reward")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    path.write_text(drawn.replace("Fira Code", "ui-monospace, Menlo, Consolas"), encoding="utf-8")


def render_readme(path: Path) -> None:
    """Write the README as a page, about as a forge shows it."""
    text = MarkdownIt("commonmark").enable("table").render((ROOT / "README.md").read_text(encoding="utf-8"))
    head = f'<meta charset="utf-8"><base href="{ROOT.as_uri()}/"><style>{STYLE}</style>'
    path.write_text(head + text, encoding="utf-8")


def photograph(page: Path, path: Path) -> None:
    """Save the first screen of a page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1100, "height": 760})
        shown.goto(page.as_uri())
        shown.wait_for_timeout(1000)
        shown.screenshot(path=path)
        browser.close()


def main() -> None:
    """Make all pictures, the README's last, since it shows others."""
    ASSETS.mkdir(exist_ok=True)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "responses.jsonl").write_bytes((ROOT / "examples" / "responses.jsonl").read_bytes())
        # As most readers see it: by llama.cpp, without OpenVINO.
        (folder / "sitecustomize.py").write_text(
            "import sys; sys.modules['openvino_genai'] = None\n", encoding="utf-8"
        )
        draw_terminal(COMMAND, run(COMMAND, folder), ASSETS / "terminal.svg")
        run("flip-reward score responses.jsonl --max-tokens 64 --run-folder run", folder)
        run("flip-reward report run", folder)
        photograph(folder / "run" / "report.html", ASSETS / "run-page.png")
        photograph(ROOT / "build" / "site" / "index.html", ASSETS / "site.png")
        render_readme(folder / "readme.html")
        photograph(folder / "readme.html", ASSETS / "readme.png")


if __name__ == "__main__":
    main()
