"""The page of a training in a browser: its curves, its alarms, its filters, and what a sample shows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flip_reward.report.training.folder import Split
from flip_reward.report.training.page import build_training_page
from tests.e2e.report.reader import Read, Shown, choose, count
from tests.e2e.report.test_access import CONTRASTS
from tests.unit.report.make_evaluation import HOSTILE
from tests.unit.report.make_training import ALARM_STEP, GENERATIONS, PROMPTS, STEPS, make_training

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

EVERYTHING = STEPS * PROMPTS * GENERATIONS + 4 * PROMPTS + len(HOSTILE) + 1


def figure(page: Page, title: str, section: str = "policy") -> Locator:
    return page.locator(f"#{section} figure").filter(has=page.locator("figcaption", has_text=title)).first


def steps(page: Page) -> list[int]:
    return [int(text.split(",")[0].removeprefix("step ")) for text in page.locator("#list .where").all_inner_texts()]


def rewards(page: Page) -> list[float]:
    known = [text for text in page.locator("#list .value").all_inner_texts() if text[0].isdigit()]
    return [float(text) for text in known]


def test_first_comes_what_the_training_amounts_to(read: Read, trained: Shown) -> None:
    page = read(shown=trained).open()
    finding = page.locator(".finding").inner_text()
    assert finding.startswith("The mean reward of held-out prompts went from 0.")
    assert finding.endswith(f"at step {STEPS}. 1 alarm, at step {ALARM_STEP}.")
    names = page.locator("#policy .table tbody th").all_inner_texts()
    assert names == ["Reward", "length, not trained on", "Copied from the instruction"]
    assert "%" in page.locator("#policy .table tbody tr").last.inner_text()


def test_curves_start_where_they_should(read: Read, trained: Shown) -> None:
    page = read(shown=trained).open()

    def ticks(title: str, section: str = "policy") -> list[str]:
        labels = figure(page, title, section).locator("[aria-label='y-axis tick label'] text")
        return labels.all_text_contents()

    assert ticks("Copied from the instruction")[0] == "0%"
    assert ticks("Copied from the instruction")[-1] == "100%"
    assert ticks("Scored responses", "course")[-1] == "100%"
    assert ticks("Reward")[0] == "0"
    assert ticks("Mean length, in tokens", "course")[0] == "0"
    assert "0" in ticks("Divergence", "watched")
    assert figure(page, "Reward").locator("[aria-label=area] path").count() == 1, "the interval of held-out prompts"
    assert figure(page, "Divergence", "watched").locator(".note").inner_text()


def test_a_curve_shows_its_values_at_the_pointer(read: Read, trained: Shown) -> None:
    page = read(shown=trained).open()
    chart = figure(page, "Reward").locator("svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + box["height"] / 2)
    tip = chart.locator("[aria-label=tip]")
    tip.get_by_text(f"step {STEPS}").wait_for()
    said = tip.text_content() or ""
    assert "training 0." in said
    assert "held out 0." in said
    assert " to " in said, "its interval"


def test_the_values_of_a_curve_are_a_table_too(read: Read, trained: Shown) -> None:
    page = read(shown=trained).open()
    table = figure(page, "Reward")
    table.get_by_text("Table").click()
    table.locator("tbody tr").first.wait_for()
    rows = table.locator("tbody tr").all_inner_texts()
    assert len(rows) == STEPS + 1
    assert rows[0].split("\t")[1] == "–", "nothing was learned from yet"


def test_an_alarm_is_marked_in_every_curve_and_leads_to_its_samples(read: Read, trained: Shown) -> None:
    page = read(shown=trained).open()
    charts = page.locator("figure.curves svg")
    assert page.locator("figure.curves svg").get_by_text(f"alarm {ALARM_STEP}").count() == charts.count() > 8
    alarm = page.locator("#alarms .alarm")
    assert alarm.locator("h3").inner_text() == f"Step {ALARM_STEP}: Copied from the instruction"
    assert "Since step 5" in alarm.inner_text()
    assert alarm.locator("button").count() == 5
    alarm.locator("button").first.click()
    assert f"named by the alarm of step {ALARM_STEP}" in page.locator("#sample").inner_text()
    assert page.evaluate("document.activeElement.id") == "sample-title"
    alarm.locator("button").last.click()
    assert "Nobody wrote this." in page.locator("#sample .candidate").first.inner_text()
    page.go_back()
    assert "Nobody wrote this." not in page.locator("#sample").inner_text()


def test_every_filter_and_order(read: Read, trained: Shown) -> None:
    page = read(shown=trained).open()
    assert count(page) == f"{EVERYTHING} samples"
    choose(page, "From step", "4")
    choose(page, "To step", "5")
    assert {*steps(page)} == {4, 5}
    assert count(page).startswith(f"{2 * PROMPTS * GENERATIONS + PROMPTS} of")
    choose(page, "Prompts", "held-out")
    assert count(page).startswith(f"{PROMPTS} of")
    page.get_by_role("button", name="Clear the filters").click()
    choose(page, "Outcome", "empty_reply")
    assert not rewards(page)
    choose(page, "Outcome", "scored")
    for order, descending in (("reward", False), ("reward-down", True)):
        choose(page, "Sort", order)
        assert rewards(page) == sorted(rewards(page), reverse=descending)
    choose(page, "Sort", "step-down")
    assert steps(page)[0] == STEPS
    choose(page, "Sort", "copied-down")
    assert "100.0% copied" in page.locator("#list .where").first.inner_text()
    choose(page, "Sort", "length-down")
    longest = page.locator("#sample .candidate h4 small").first.inner_text()
    assert longest.startswith(f"{max(map(len, HOSTILE)):,} characters")
    assert page.get_by_role("combobox", name="Training").is_hidden(), "there is one"
    page.get_by_role("searchbox").fill("nobody WROTE")
    page.wait_for_timeout(200)
    assert count(page).startswith("1 of")


def test_a_sample_shows_what_it_copied_and_what_was_inferred(read: Read, trained: Shown) -> None:
    page = read(shown=trained).open(f"#sample=held-out-{STEPS}-1")
    sample = page.locator("#sample")
    prompt = sample.locator("section[aria-label=Prompt] .text").inner_text()
    marked = sample.locator(".candidate > .text").first.locator("mark").first.inner_text()
    assert marked
    assert marked in prompt
    assert "100.0% copied" in sample.locator(".candidate h4").first.inner_text()
    assert sample.locator(".inference mark").count() > 0
    before = sample.locator("section.others")
    assert before.locator("h4").nth(1).inner_text().startswith("Before, step 0")
    assert "length, not trained on" in before.inner_text()
    before.get_by_role("button").first.click()
    assert sample.locator("h3").inner_text() == "Step 0, held out"


@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_hostile_texts_are_texts(read: Read, trained: Shown, index: int) -> None:
    page = read(shown=trained).open(f"#sample=train-{STEPS}-{PROMPTS * GENERATIONS + 1 + index}")
    within = page.eval_on_selector_all(
        "#sample .text *", "all => [...new Set(all.map(one => one.localName))].filter(name => name != 'mark')"
    )
    assert within == []
    shown = page.locator("#sample .candidate > .text").first.evaluate("one => one.textContent")
    controls = {chr(code): chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {"\x7f": "␡"}
    assert shown == "".join(controls.get(character, character) for character in HOSTILE[index][:20_000])
    assert page.evaluate("document.querySelectorAll('img, iframe, script[src], svg script').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [320, 390, 800])
def test_it_fits_a_narrow_window(read: Read, trained: Shown, width: int) -> None:
    page = read(width=width, shown=trained).open()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(read: Read, trained: Shown, *, dark: bool) -> None:
    page = read(dark=dark, shown=trained).open()
    assert page.evaluate(CONTRASTS) == []


def test_a_screen_reader_hears_names(read: Read, trained: Shown) -> None:
    page = read(shown=trained).open()
    heard = page.locator("body").aria_snapshot()
    for part in (
        'heading "What was watched" [level=2]', 'img "Reward, by step"', 'combobox "From step"',
        f'region "Alarm of step {ALARM_STEP}"', 'table "Figures before and after"',
    ):  # fmt: skip
        assert part in heard, part
    levels = page.eval_on_selector_all("h1, h2, h3, h4, h5", "all => all.map(one => +one.tagName[1])")
    assert all(next_ - level <= 1 for level, next_ in pairwise(levels))
    ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_trainings_together(read: Read, trained: Shown, tmp_path: Path) -> None:
    second = make_training(tmp_path / "second", seed=1, alarms=False)
    address = build_training_page(second, trained.folder).as_uri()
    page = read(shown=Shown(address, "second, grpo · flip-reward training", second)).open()
    lines = figure(page, "Saturation", "watched").locator("[aria-label=line]")
    assert lines.count() == 3, "a thin one for each, and their mean"
    choose(page, "Training", "1")
    assert count(page).startswith(f"{EVERYTHING} of")
    assert page.locator("#list .where").first.inner_text().startswith("grpo, step 0")
    page.get_by_text("Different in each").click()
    assert page.locator("#making").get_by_text("1, 0").is_visible()


def test_the_step_that_was_asked_for_is_open(read: Read, tmp_path: Path) -> None:
    folder = make_training(tmp_path / "grpo", alarms=False)
    address = build_training_page(folder, split=Split.TRAIN, step=7).as_uri()
    page = read(shown=Shown(address, "grpo · flip-reward training", folder)).open()
    assert {*steps(page)} == {7}
    assert page.locator("#alarms").inner_text().startswith("Alarms\n\nNone")
    page.get_by_role("button", name="Clear the filters").click()
    assert count(page) == f"{STEPS * PROMPTS * GENERATIONS} samples"
