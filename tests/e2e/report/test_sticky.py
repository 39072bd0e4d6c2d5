"""What is opened, gone to or focused in a page stands below what sticks to the top of the window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flip_reward.report.training import Split, build_training_page
from flip_reward.training.grpo.samples import SampleTable
from tests.e2e.report.reader import HIDDEN, Read, Shown
from tests.unit.report.test_training import make_sample, write_training

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTHS = [390, 700, 1280]


@pytest.fixture(params=["evaluation", "scored", "chosen"])
def shown(request: pytest.FixtureRequest) -> Shown | None:
    if request.param == "evaluation":
        return None
    page: Shown = request.getfixturevalue(request.param)
    return page


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sample_opens_below_the_bars(read: Read, shown: Shown | None, width: int) -> None:
    page = read(width=width, height=600, shown=shown).open()
    page.locator("#list button").nth(3).click()
    assert page.evaluate(HIDDEN) == ""
    for _ in range(3):
        page.evaluate("window.scrollBy(0, 500)")
        page.locator("#next-sample").click()
        assert page.evaluate(HIDDEN) == ""
    if width < 960:
        page.locator("#back").click()
    page.evaluate("window.scrollBy(0, 900)")
    page.locator("#list button").nth(1).click()
    assert page.evaluate(HIDDEN) == ""


@pytest.mark.parametrize("width", WIDTHS)
def test_what_the_keyboard_comes_to_is_below_the_bars(read: Read, shown: Shown | None, width: int) -> None:
    page = read(width=width, height=600, shown=shown).open()
    page.locator("#list button").nth(2).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "sample-title"
    assert page.evaluate(HIDDEN) == ""
    page.keyboard.press("j")
    assert page.evaluate(HIDDEN) == ""
    stops = 0
    for key in ["Tab"] * 8 + ["Shift+Tab"] * 8:
        page.keyboard.press(key)
        if page.evaluate("document.activeElement.closest('#sample-body') !== null"):
            stops += 1
            assert page.evaluate(HIDDEN) == "", key
    assert stops > 1
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.keyboard.press("k")
    assert page.evaluate(HIDDEN) == ""


@pytest.mark.parametrize("width", WIDTHS)
def test_a_link_leads_below_the_bars(read: Read, shown: Shown | None, width: int) -> None:
    reader = read(width=width, height=600, shown=shown)
    page = reader.open()
    page.locator("#list button").nth(3).click()
    hash_ = page.evaluate("location.hash")
    assert "sample=" in hash_
    page = reader.open(hash_)
    page.wait_for_function("document.getElementById('sample').getBoundingClientRect().top < 300")
    assert page.evaluate(HIDDEN) == ""
    page.go_back()
    page = reader.open("#making")
    page.wait_for_function("window.scrollY > 0")
    page.wait_for_timeout(100)
    for link in ("#outcomes", "#making"):
        page.evaluate(f"location.hash = '{link}'")
        page.wait_for_timeout(50)
        top = page.locator(f"{link} h2").bounding_box()
        bar = page.locator("nav.bar").bounding_box()
        assert top is not None
        assert bar is not None
        assert bar["y"] + bar["height"] <= top["y"] < 600


def test_nothing_sticks_in_the_page_of_a_training(browser: Browser, tmp_path: Path) -> None:
    write_training(tmp_path)
    table = SampleTable(tmp_path)
    for step in (0, 2):
        table.add(Split.HELD_OUT, [make_sample(row, "word " * 400, 0.25) for row in range(5)])
        table.write(Split.HELD_OUT, step)
    page = browser.new_page(viewport={"width": 390, "height": 600})
    page.goto(f"{build_training_page(tmp_path).as_uri()}#prompt-3")
    found = page.locator("#prompt-3 h3").bounding_box()
    assert found is not None
    assert 0 <= found["y"] < 600
    sticking = "all => all.filter(one => /sticky|fixed/.test(getComputedStyle(one).position)).length"
    assert page.eval_on_selector_all("*", sticking) == 0
    page.close()
