"""The server's page at /docs in a real browser, which may ask nobody but the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_the_page_shows_every_path_and_asks_nobody_else(
    tmp_path: Path, browser: Browser, width: int, scheme: str
) -> None:
    with Served(tmp_path, "--model", "scripted") as served:
        own = f"http://127.0.0.1:{served.port}/"
        _, document = served.ask("/openapi.json")
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
        )
        page = context.new_page()
        problems: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{own}docs")
        paths = [(path, method) for path, methods in document["paths"].items() for method in methods]
        operations = page.locator("details:has(summary b)")
        assert operations.count() == len(paths)
        for number in range(len(paths)):
            operation = operations.nth(number)
            operation.locator("summary").focus()
            page.keyboard.press("Enter")
            assert operation.locator("dl").is_visible()
        page.locator("dl a[href^='#'], p a[href^='#']").first.click()
        assert page.evaluate("() => document.querySelector(':target').open")
        assert page.evaluate(SIDEWAYS) == 0
        context.close()
    assert problems == []
    # `data:,` is the page's own empty icon.
    assert [url for url in asked if not url.startswith(own) and url != "data:,"] == []
