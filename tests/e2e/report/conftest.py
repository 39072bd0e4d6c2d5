"""One report for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flip_reward.evaluation.tabulate import read_data
from flip_reward.report.evaluation.page import build_report
from flip_reward.report.evaluation.payload import make_report_data
from flip_reward.report.run.page import build_run_page
from flip_reward.report.training.page import build_training_page
from tests.e2e.report.reader import ITEMS, Made, Read, Reader, Shown
from tests.unit.report.make_evaluation import make_evaluation
from tests.unit.report.make_run import choose_from_rows, list_rows, score_rows
from tests.unit.report.make_training import make_training

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = make_evaluation(tmp_path_factory.mktemp("evaluation"), items=ITEMS, hostile=True, samples=4)
    data = make_report_data(folder, read_data(folder))
    return Made(build_report(folder).as_uri(), data.payload.benchmarks[0], data.texts.cut(20_000).texts)


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("scored")
    others = [{"id": "odd", "prompt": "Hi", "response": ""}, {"prompt": "Hi"}]
    run = score_rows(folder, [*list_rows(60, hostile=True), *others])
    return Shown(build_run_page(run).as_uri(), "rows.jsonl · flip-reward run", run)


@pytest.fixture(scope="session")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    rows: list[dict[str, object]] = [
        *list_rows(30, grouped=True),
        {"id": "none", "prompt": "Hi", "responses": ["", "unknown"]},
    ]
    run = choose_from_rows(tmp_path_factory.mktemp("chosen"), rows)
    return Shown(build_run_page(run).as_uri(), "candidates.jsonl · flip-reward run", run)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = make_training(tmp_path_factory.mktemp("trained") / "grpo", hostile=True)
    return Shown(build_training_page(folder).as_uri(), "grpo · flip-reward training", folder)


@pytest.fixture
def read(browser: Browser, made: Made) -> Iterator[Read]:
    """Open pages; afterwards none of them may have complained or asked anybody for anything."""
    readers: list[Reader] = []

    def start(*, width: int = 1280, height: int = 900, dark: bool = False, shown: Shown | None = None) -> Reader:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            offline=True,
        )
        page = context.new_page()
        shown = shown or Shown(made.address, "llmbar, best-of-4 · flip-reward evaluation", Path())
        reader = Reader(page, shown.address, shown.title)
        page.on("console", lambda message: reader.problems.append(message.text))
        page.on("pageerror", lambda error: reader.problems.append(str(error)))
        page.on("dialog", lambda dialog: reader.problems.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: reader.requests.append(request.url))
        readers.append(reader)
        return reader

    yield start
    for reader in readers:
        title = reader.page.title()
        reader.page.context.close()
        assert reader.problems == []
        # `data:,` is the page's own empty icon.
        assert {url for url in reader.requests if url != "data:,"} <= {reader.address, "about:blank"}
        assert title == reader.title
