"""`make docs`: every link leads somewhere, and the pages ask nobody but their own folder."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

import flip_reward
from flip_reward.cli.app import COMMANDS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPOSITORY = Path(__file__).parents[2]
SITE = REPOSITORY / "build" / "site"
PAGES = ["index.html", "reference/names.html", "reference/commands.html", "results/which-reward.html"]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    built = subprocess.run(
        [sys.executable, "docs/build_site.py"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr


@pytest.mark.slow
def test_the_reference_holds_every_command_and_name() -> None:
    commands = (SITE / "reference/commands.html").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f'id="{name}"' not in commands] == []
    names = (SITE / "reference/names.html").read_text(encoding="utf-8")
    assert [name for name in flip_reward.__all__ if f'id="flip_reward.{name}"' not in names] == []


@pytest.mark.slow
def test_llms_txt_names_pages_that_are_there() -> None:
    lines = (SITE / "llms.txt").read_text(encoding="utf-8").splitlines()
    pages = [line.partition("](")[2].partition(")")[0] for line in lines if line.startswith("- [")]
    assert len(pages) > 20
    assert [page for page in pages if not (SITE / page).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_pages_ask_nobody_else(browser: Browser, width: int) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(SITE)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        own = f"http://127.0.0.1:{server.server_port}/"
        for name in PAGES:
            page.goto(own + name)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert [url for url in asked if not url.startswith((own, "data:"))] == []
        assert problems == []
        page.close()
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""
