"""What is opened, gone to or focused in a page stands below what sticks to the top of the window."""

from __future__ import annotations

import pytest

from tests.e2e.report.reader import HIDDEN, Read, Shown

WIDTHS = [390, 700, 1280]


@pytest.fixture(params=["evaluation", "scored", "chosen", "trained"])
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
    for link in (page.locator("nav.bar a").nth(1).get_attribute("href"), "#making"):
        page.evaluate(f"location.hash = '{link}'")
        page.wait_for_timeout(50)
        top = page.locator(f"{link} h2").bounding_box()
        bar = page.locator("nav.bar").bounding_box()
        assert top is not None
        assert bar is not None
        assert bar["y"] + bar["height"] <= top["y"] < 600
