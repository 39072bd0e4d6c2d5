"""The figures and charts of a report, in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flip_reward.evaluation.tabulate import tabulate
from flip_reward.report.evaluation.page import build_report
from tests.e2e.report.reader import Made, Read, choose, count
from tests.unit.evaluation.grids import Inferrer, control, evaluate, flip
from tests.unit.evaluation.items import known
from tests.unit.report.make_evaluation import REWARDS, make_evaluation, write_json

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Change = Callable[[dict[str, Any]], None]
OpenChanged = Callable[[Change], "Page"]


def test_the_figures_are_those_of_the_results(read: Read, made: Made) -> None:
    page = read().open()
    rows = page.locator("#results table").first.locator("tbody tr")
    best = max(made.llmbar.cells, key=lambda cell: known(cell.overall.length_balanced).value)
    assert rows.count() == 3
    first = rows.nth(0).inner_text()
    assert first.startswith(["flip", "pointwise", "pairwise"][best.reward])
    [headline] = best.figures
    shown = (best.overall.length_balanced, best.overall.fractional, best.overall.strict)
    figures = [f"{value * 100:.1f}" for value in (headline.value, *(known(one).value for one in shown))]
    places = [first.index(figure) for figure in figures]
    assert places == sorted(places)
    assert page.locator("#making").get_by_text("2026-02-13T09:00:00+00:00").first.is_visible()


def test_better_is_said_only_where_the_comparison_says_it(read: Read, made: Made) -> None:
    finding = read().open().locator(".finding").inner_text()
    verdicts = {(pair.a, pair.b): pair.verdict for pair in made.llmbar.comparisons}
    best = finding.split()[0]
    for other in {"flip", "pointwise", "pairwise"} - {best}:
        pair = (REWARDS[best], REWARDS[other])
        verdict = verdicts.get(pair) or {"a better": "b better", "b better": "a better"}.get(
            verdicts[pair[::-1]], "not told apart"
        )
        better, _, open_ = finding.partition("cannot be told apart")
        assert (other in better.partition("better than")[2]) == (verdict == "a better")
        assert (other in open_) == (verdict == "not told apart")


@pytest.fixture
def open_changed(browser: Browser, tmp_path: Path) -> Iterator[OpenChanged]:
    """Open the report of an evaluation whose cells of pairs were changed, by reward."""
    page, problems = browser.new_page(), list[str]()
    page.on("pageerror", lambda error: problems.append(str(error)))

    def open_page(change: Change) -> Page:
        results = make_evaluation(tmp_path, items=150) / "results.json"
        content = json.loads(results.read_text(encoding="utf-8"))
        change({cell["reward"]: cell for cell in content["cells"] if cell["benchmark"] == "llmbar"})
        write_json(results, content)
        page.goto(build_report(tmp_path).as_uri())
        page.wait_for_selector("#results svg")
        return page

    yield open_page
    page.close()
    assert problems == []


def test_who_leads_by_length_balanced_accuracy_may_be_worse_without_it(open_changed: OpenChanged) -> None:
    def favour_the_judge(cells: dict[str, Any]) -> None:
        cells[REWARDS["pairwise"]]["overall"]["length_balanced"] = {"value": 0.97, "low": 0.9, "high": 1, "n": 40}

    page = open_changed(favour_the_judge)
    rows = page.locator("#results table").first.locator("tbody tr")
    assert rows.nth(0).inner_text().startswith("pairwise")
    finding = page.locator(".finding").inner_text()
    assert finding.startswith("pairwise decides")
    assert "Length-balanced it has 97.0%" in finding
    assert finding.endswith("Without regard to length it is worse than flip.")


def test_results_without_length_balanced_accuracy_are_sorted_by_accuracy(open_changed: OpenChanged) -> None:
    def forget(cells: dict[str, Any]) -> None:
        for cell in cells.values():
            for part in (cell["overall"], *cell["subsets"]):
                del part["length_balanced"]
            for figure in cell["protocol_figures"]:
                del figure["headline"]

    page = open_changed(forget)
    results = page.locator("#results")
    assert results.locator("tbody tr").first.inner_text().startswith("flip")
    assert results.locator("svg").count() == 1
    assert "There is no length-balanced accuracy" in results.inner_text()
    assert "(" not in " ".join(page.locator("#subsets svg text").all_text_contents())


def test_every_chart_is_drawn_named_and_beside_a_table(read: Read) -> None:
    page = read().open()
    for section, charts in {
        "results": 2, "subsets": 6, "comparisons": 1, "rewards": 3, "lengths": 6, "outcomes": 1, "effort": 1,
    }.items():  # fmt: skip
        pictures = page.locator(f"#{section} svg[role=img][aria-label]")
        assert pictures.count() == charts, section
        assert page.locator(f"#{section} table caption").count() >= 1
        for box in (pictures.nth(index).bounding_box() for index in range(charts)):
            assert box is not None
            assert box["height"] > 60
            assert box["width"] > 200


def test_a_chart_follows_the_width(read: Read) -> None:
    page = read(width=1280).open()
    before = page.locator("#results svg").first.get_attribute("width")
    page.set_viewport_size({"width": 700, "height": 900})
    page.locator(f"#results svg:not([width='{before}'])").first.wait_for()
    after = page.locator("#results svg").first.bounding_box()
    assert after is not None
    assert 600 < after["x"] + after["width"] <= 700


def test_the_benchmark_can_be_changed(read: Read) -> None:
    page = read().open()
    choose(page, "Benchmark", "best-of-4")
    assert count(page) == "12 samples"
    assert "of 12 items" in page.locator(".finding").inner_text()
    assert page.locator("#sample .candidate").count() == 4
    assert "benchmark=best-of-4" in page.url


def test_who_never_answered_is_ranked_nowhere(browser: Browser, tmp_path: Path) -> None:
    silent = flip(Inferrer("no", *(f"w{n}" for n in range(12))))
    with ThreadPoolExecutor() as thread:  # an event loop runs in this one
        thread.submit(evaluate, tmp_path, [silent, control("longest"), control("shortest")]).result()
    report = build_report(tmp_path, tabulate(tmp_path))
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_selector("#results svg")
    finding = page.locator(".finding").inner_text()
    assert finding.startswith("shortest decides 100.0%")
    assert finding.endswith("flip reasoned: no verdict, as no item was scored.")
    last = page.locator("#results table").first.locator("tbody tr").last.inner_text()
    assert "flip reasoned" in last
    assert last.count("no verdict") == 4
    assert "flip" not in page.locator("#comparisons").inner_text()
    assert page.locator("#subsets tr", has_text="no verdict").count() == 2
    assert page.locator("#lengths figure", has_text="no verdict").count() == 2
    assert page.locator("#lengths svg").count() == 4
    page.close()
    assert problems == []


def test_a_difference_of_a_long_formula_has_brackets_and_leaves_room_for_its_figure(
    browser: Browser, tmp_path: Path
) -> None:
    long = "z(flip) + 0.25 * z(copy) + 0.25 * gate(flip, length(max=900), 0.5) + clip(copy, 0, 1)"
    formula = replace(control("shortest"), label=long)
    with ThreadPoolExecutor() as thread:  # an event loop runs in this one
        thread.submit(evaluate, tmp_path, [control("longest"), formula]).result()
    page = browser.new_page()
    page.goto(build_report(tmp_path, tabulate(tmp_path)).as_uri())
    page.wait_for_selector("#comparisons svg")
    assert page.locator("#comparisons tbody tr", has_text=f"longest − ({long})").is_visible()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        texts = [
            box
            for one in page.locator("#comparisons svg g[aria-label=text] text").all()
            if (box := one.bounding_box())
        ]
        [label] = [box for box in texts if box["x"] == min(one["x"] for one in texts)]
        [figure] = [box for box in texts if box["x"] == max(one["x"] for one in texts)]
        assert label["x"] + label["width"] < figure["x"]
    page.close()


def test_without_what_it_needs_it_says_so(read: Read, made: Made, tmp_path: Path) -> None:
    broken = tmp_path / "report.html"
    whole = Path(made.address.removeprefix("file://")).read_text(encoding="utf-8")
    broken.write_text(whole.replace('id="data">H4sI', 'id="data">AAAA'), encoding="utf-8")
    reader = read()
    reader.page.goto(broken.as_uri())
    reader.page.wait_for_selector("#failure:visible")
    assert "cannot be shown" in reader.page.locator("#failure").inner_text()
    reader.requests.clear()
    reader.problems.clear()
