"""The page of a run in a browser: its figures, its filters, and what a sample shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flip_reward.report.run.page import build_run_page
from tests.e2e.report.reader import Read, Shown, choose, count
from tests.e2e.report.test_access import CONTRASTS
from tests.unit.report.make_evaluation import HOSTILE, LONG_LINE
from tests.unit.report.make_run import list_rows, score_echo, score_rows

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROWS = 60 + len(HOSTILE) + 1


def ids(page: Page) -> list[str]:
    return [text.split(" · ")[0] for text in page.locator("#list .where").all_inner_texts()]


def rewards(page: Page) -> list[float]:
    return [float(text) for text in page.locator("#list .value").all_inner_texts()]


def test_first_comes_what_the_run_amounts_to(read: Read, scored: Shown) -> None:
    page = read(shown=scored).open()
    assert page.locator("#byline").inner_text().startswith(f"{ROWS} responses · scripted")
    finding = page.locator(".finding").inner_text()
    assert finding.startswith(f"60 of {ROWS} responses are scored, with a mean reward of 0.")
    outcomes = page.locator("#outcomes tbody tr").all_inner_texts()
    assert outcomes[0].split() == ["scored", "60", f"{6000 / ROWS:.1f}%", "it", "has", "a", "reward"]
    assert any(line.startswith("empty response") and "blank" in line for line in outcomes)
    assert "1 row could not be scored" in page.locator("#rejected").inner_text()
    assert f"{ROWS + 1}" in page.locator("#rejected tbody td").first.inner_text()
    page.get_by_text("Settings").click()
    assert page.locator("#making").get_by_text("reasoned", exact=True).is_visible()


def test_a_bar_shows_its_responses(read: Read, scored: Shown) -> None:
    page = read(shown=scored).open()
    bars = page.locator(".histogram .bars:not(.apart) button")
    assert bars.count() == 20
    shown = 0
    for bar in bars.all():
        name = bar.get_attribute("aria-label") or ""
        found = int(name.split(": ")[1].split()[0])
        if found:
            bar.click()
            shown += found
            assert count(page).startswith(f"{found} of {ROWS} responses"), name
            low, high = map(float, name.split(":")[0].split(" to "))
            assert all(low - 1e-3 <= reward <= high + 1e-3 for reward in rewards(page))
            assert bar.get_attribute("aria-pressed") == "true"
            assert page.get_by_role("combobox", name="Reward").input_value() == bar.get_attribute("data-bar")
    assert shown == 60
    page.locator(".histogram .apart button").click()
    assert count(page).startswith(f"{ROWS - 60} of")
    page.locator(".histogram .apart button").press("Enter")
    assert count(page) == f"{ROWS} responses", "pressed again it is let go"


def test_every_filter_and_order(read: Read, scored: Shown) -> None:
    page = read(shown=scored).open()
    choose(page, "Outcome", "empty_response")
    assert ids(page) == ["odd"]
    page.get_by_role("button", name="Clear the filters").click()
    page.locator("#outcomes").get_by_role("button", name="unparseable reply").click()
    assert count(page) == f"{len(HOSTILE)} of {ROWS} responses"
    assert "outcome=unparseable_reply" in page.url
    choose(page, "Outcome", "scored")
    for order, descending in (("reward", False), ("reward-down", True)):
        choose(page, "Sort", order)
        assert rewards(page) == sorted(rewards(page), reverse=descending)
    choose(page, "Outcome", "")
    choose(page, "Sort", "length-down")
    assert ids(page)[0] == f"hostile-{HOSTILE.index(LONG_LINE)}<i>"
    choose(page, "Sort", "length")
    assert ids(page)[0] == "odd"
    choose(page, "Sort", "order")
    assert ids(page)[:2] == ["item-0", "item-1"]
    assert page.get_by_role("combobox", name="Caution").is_hidden(), "there are none"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("ITEM-17", "item-17"), ("violin stairwell", "item-22"), ("ten-year-old printing", "item-20"), ("", "item-0")],
)
def test_search(read: Read, scored: Shown, words: str, expected: str) -> None:
    page = read(shown=scored).open()
    page.get_by_role("searchbox").fill(words)
    page.wait_for_timeout(200)
    assert expected in ids(page)


def test_a_response_shows_what_it_copies_and_both_readings(read: Read, tmp_path: Path) -> None:
    folder = score_echo(tmp_path)
    page = read(shown=Shown(build_run_page(folder).as_uri(), "rows.jsonl · flip-reward run", folder)).open()
    choose(page, "Caution", "copies_instruction")
    echo, answer = page.locator("#sample .judgement").all()
    assert echo.get_by_text("It copies 100.0% of the instruction's own words.").is_visible()
    assert echo.get_by_text("Read as it is: the reward is 1.000, which does not count.").is_visible()
    echo.get_by_text("1 inference as it is").click()
    assert echo.locator(".inferences .text").inner_text() == "Name three fruits that grow in cold countries."
    assert "copies" not in answer.inner_text()


def test_a_response_shows_what_the_reward_made_of_it(read: Read, scored: Shown) -> None:
    page = read(shown=scored).open("#sample=item-0")
    sample = page.locator("#sample")
    row = list_rows(1)[0]
    assert sample.locator(".turn .text").inner_text() == row["prompt"]
    assert sample.locator(".candidate > .text").inner_text() == row["response"]
    inferred, original = sample.locator(".inference .text").all()
    assert inferred.locator("mark").first.inner_text() == "Explain soil degradation to"
    assert original.locator("mark").first.inner_text() == "Explain soil degradation to"
    assert inferred.locator("mark").count() > 1, "not all of it is shared"
    assert sample.locator(".measures dt").all_inner_texts() == ["Precision", "Recall", "F1"]
    assert "It is about it." in sample.inner_text()
    sample.get_by_text("The reply as it came").click()
    assert sample.get_by_text('{"REASONING"').is_visible()
    assert "1 request" in sample.locator(".judgement").inner_text()


def test_an_unscored_response_says_why(read: Read, scored: Shown) -> None:
    page = read(shown=scored).open("#sample=odd")
    assert page.locator("#sample .judgement .unscored").inner_text() == "empty response: the response is blank"
    assert page.locator("#sample .judgement h5").inner_text().split() == ["Reward", "none"]


def test_a_group_stands_side_by_side(read: Read, chosen: Shown) -> None:
    page = read(shown=chosen).open("#sample=item-1")
    finding = page.locator(".finding").inner_text()
    assert "In 30 of 31 rows a response is chosen, in 27 of them among equals by the rule “first”." in finding
    assert finding.endswith("In 1 nothing could be decided.")
    sample = page.locator("#sample")
    assert sample.locator(".candidate").count() == 4
    assert "#0 and #1 have the same highest reward; the rule “first” chose #0." in sample.inner_text()
    tags = sample.locator("table .tag").all_inner_texts()
    assert tags == ["chosen", "tied"]
    first, second = (sample.locator(".candidate").nth(place).bounding_box() for place in (0, 1))
    assert first is not None
    assert second is not None
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]
    assert sample.locator("table tbody tr").last.inner_text().split()[:3] == ["#3", "empty", "response"]
    choose(page, "Group", "none")
    assert ids(page) == ["none"]
    assert "Undecided: no response is scored." in sample.inner_text()
    for name, found in (("tied", 27), ("part", 30), ("clear", 3)):
        choose(page, "Group", name)
        assert count(page) == f"{found} of 31 rows"
    choose(page, "Group", "")
    choose(page, "Sort", "spread")
    spreads = [text.split(" to ") for text in page.locator("#list .value").all_inner_texts() if " to " in text]
    widths = [round(float(high) - float(low), 3) for low, high in spreads]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_hostile_texts_are_texts(read: Read, scored: Shown, index: int) -> None:
    page = read(shown=scored).open(f"#sample=hostile-{index}%3Ci%3E")
    assert page.locator("#sample h3").inner_text() == f"hostile-{index}<i>"
    within = page.eval_on_selector_all("#sample .text *", "all => all.filter(one => one.localName != 'mark').length")
    assert within == 0
    shown = page.locator("#sample .candidate > .text").evaluate("one => one.textContent")
    controls = {chr(code): chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {"\x7f": "␡"}
    assert shown == "".join(controls.get(character, character) for character in HOSTILE[index][:20_000])
    assert page.evaluate("document.querySelectorAll('img, iframe, script[src], svg script').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_needs_no_sideways_scrolling(read: Read, chosen: Shown, width: int) -> None:
    page = read(width=width, height=740, shown=chosen).open()
    fits = "document.documentElement.scrollWidth <= innerWidth"
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate(fits)
    page.locator("#list button").nth(3).click()
    assert page.evaluate(fits)
    if width < 700:
        first, second = (page.locator(".candidate").nth(place).bounding_box() for place in (0, 1))
        assert first is not None
        assert second is not None
        assert first["y"] + first["height"] <= second["y"], "one below the other"
        assert first["width"] > width * 0.8


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(read: Read, chosen: Shown, *, dark: bool) -> None:
    page = read(dark=dark, shown=chosen).open()
    assert page.evaluate(CONTRASTS) == []


def test_the_keyboard_reaches_everything(read: Read, chosen: Shown) -> None:
    page = read(shown=chosen).open()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "samples-title"
    page.keyboard.press("/")
    passed = []
    for _ in range(5):
        page.keyboard.press("Tab")
        passed.append(page.evaluate("document.activeElement.id"))
    assert passed[:4] == ["outcome", "bar", "group", "sort"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "sample-title"
    page.keyboard.press("j")
    assert page.locator("#position").inner_text() == "3 of 31"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.index") == "2"
    unnamed = "all => all.filter(one => !one.labels?.length && !one.ariaLabel && !one.textContent.trim()).length"
    assert page.eval_on_selector_all("button, input, select", unnamed) == 0


def test_without_its_input_it_says_so(read: Read, tmp_path: Path) -> None:
    run = score_rows(tmp_path, list_rows(3))
    (tmp_path / "rows.jsonl").unlink()
    (run / "summary.json").unlink()
    shown = Shown(build_run_page(run).as_uri(), "rows.jsonl · flip-reward run", run)
    page = read(shown=shown).open("#sample=item-1")
    assert "rows.jsonl" in page.locator("#missing").inner_text()
    assert "not finished" in page.locator("#unfinished").inner_text()
    assert page.locator("#sample .candidate").get_by_text("Its text is not here.").is_visible()
    assert page.locator("#sample .inference mark").count() > 0


def test_a_run_of_groups_in_which_all_is_scored(read: Read, tmp_path: Path) -> None:
    rows = [{**row, "id": f"twice-{index // 2}"} for index, row in enumerate(list_rows(8))]
    run = score_rows(tmp_path, [{**row, "prompt": rows[index // 2 * 2]["prompt"]} for index, row in enumerate(rows)])
    page = read(shown=Shown(build_run_page(run).as_uri(), "rows.jsonl · flip-reward run", run)).open()
    assert page.locator(".finding").inner_text().endswith("They belong to 4 groups.")
    assert count(page) == "4 groups"
    bars, ticks = (page.locator(f".histogram .{name}").bounding_box() for name in ("bars", "ticks"))
    assert bars is not None
    assert ticks is not None
    assert (ticks["x"], ticks["width"]) == (bars["x"], bars["width"])
    assert ticks["y"] >= bars["y"] + bars["height"]


def test_a_run_without_records_says_so(read: Read, tmp_path: Path) -> None:
    run = score_rows(tmp_path, list_rows(1))
    (run / "records.jsonl").write_bytes(b"")
    reader = read(shown=Shown(build_run_page(run).as_uri(), "rows.jsonl · flip-reward run", run))
    reader.page.goto(reader.address)
    reader.page.wait_for_selector("#making dd", state="attached")
    assert reader.page.locator(".finding").inner_text() == "There are no responses yet."
    assert reader.page.locator("#failure").is_hidden()
