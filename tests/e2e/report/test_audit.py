"""The page of an audit in a browser: its heat map, its findings, its texts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from flip_reward.audit.tabulate import AuditData
from flip_reward.report.audit.page import build_audit_page
from tests.e2e.report.reader import HIDDEN, Read, Shown, choose, count
from tests.e2e.report.test_access import CONTRASTS
from tests.unit.report.make_audit import FLIP, HEADLINE, JUDGE, SILENT, make_attacks, make_audit
from tests.unit.report.make_evaluation import HOSTILE

if TYPE_CHECKING:
    pass

TITLE = "prompts.jsonl · flip-reward audit"


@pytest.fixture(scope="session")
def audit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="session")
def made_audit(audit_folder: Path) -> AuditData:
    return make_audit(audit_folder, prompts=30, hostile=True)


@pytest.fixture(scope="session")
def audited(audit_folder: Path, made_audit: AuditData) -> Shown:
    return Shown(build_audit_page(audit_folder, made_audit).as_uri(), TITLE, audit_folder)


def cell(attack: str, reward: str) -> str:
    return f'.heat button[data-attack="{attack}"][data-reward="{reward}"]'


def test_first_comes_what_the_audit_found(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    assert page.locator("#results .finding").inner_text() == HEADLINE
    byline = page.locator("#byline").inner_text()
    assert byline.startswith(f"{30 + len(HOSTILE)} prompts · {2 * (30 + len(HOSTILE))} genuine responses")
    assert "Qwen/Qwen3-1.7B" in byline
    rows = page.locator("#results tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["flip", "flip guarded", "listwise"]
    assert "copy." in rows[0]
    sections = page.locator("main > section").evaluate_all("all => all.map(one => one.id)")
    assert sections == [
        "results", "attacks", "learned", "slopes", "broken", "kept", "samples", "unscored", "making",
    ]  # fmt: skip


def test_the_heat_map_shows_the_figures_of_the_results(read: Read, audited: Shown, made_audit: AuditData) -> None:
    page = read(shown=audited).open()
    found = {(one.attack, one.reward): one for one in made_audit.results.results}
    heats = {}
    for figure in ("win_rate", "drop_auc"):
        choose(page, "Figure", figure)
        shown = page.locator(".heat button").evaluate_all(
            "all => all.map(one => [one.dataset.attack, one.dataset.reward, one.textContent, one.style.cssText])"
        )
        expected = {key for key, one in found.items() if getattr(one, figure)}
        assert {(attack, reward) for attack, reward, _, _ in shown} == expected
        for attack, reward, text, style in shown:
            value = getattr(found[attack, reward], figure).value
            assert float(text) == pytest.approx(value * 100 if figure == "win_rate" else value, abs=0.06)
            heats[figure, attack, reward] = float(style.split(":")[1].strip("; "))
    assert heats["drop_auc", "broken.names", FLIP] > heats["drop_auc", "broken.other", FLIP], "blind is worse"
    assert "figure=drop_auc" in page.url
    choose(page, "Figure", "win_rate")
    spoken = page.locator(cell("copy.before", FLIP)).get_attribute("title") or ""
    assert "flip under copy.before" in spoken
    assert "+85 characters" in spoken
    assert page.locator(".heat .band").all_inner_texts()[0].startswith("Copy")
    silent = page.locator(".heat tr", has=page.get_by_text(SILENT, exact=True)).locator("td").nth(2)
    assert silent.inner_text() == "–"
    page.get_by_text("All figures as a table").click()
    page.locator("#attacks details tbody tr").first.wait_for()
    assert page.locator("#attacks details tbody tr").count() == len(found)


def test_a_cell_shows_its_texts(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    page.locator(cell("copy.before", FLIP)).click()
    assert count(page).startswith("5 of ")
    assert all(text.startswith("copy.before · ") for text in page.locator("#list .where").all_inner_texts())
    margins = [float(text.replace("−", "-")) for text in page.locator("#list .value").all_inner_texts()]
    assert margins == sorted(margins, reverse=True)
    assert page.evaluate("document.activeElement.id") == "samples-title"
    assert page.get_by_role("combobox", name="Reward model").input_value() == FLIP
    choose(page, "Attack", "copy")
    assert count(page).startswith("35 of "), "seven attacks of a family"
    choose(page, "Show", "lost")
    assert all(text.startswith(("−", "0")) for text in page.locator("#list .value").all_inner_texts())
    page.get_by_role("button", name="Clear the filters").click()
    page.get_by_role("searchbox").fill("excellent style.praise")
    page.wait_for_timeout(300)
    assert all(text.startswith("style.praise") for text in page.locator("#list .where").all_inner_texts())
    assert page.locator("#list button").count() > 0


def test_a_text_stands_beside_the_genuine_ones(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open(f"#attack=style.praise&reward={FLIP.replace('/', '%2F')}")
    sample = page.locator("#sample")
    attacked = sample.get_by_label("Attacked text", exact=True)
    assert attacked.locator("> .text mark").all_inner_texts() == ["This is an excellent answer (style.praise)."]
    assert attacked.locator(".inference").count() >= 1
    assert "What style.praise imitates" in sample.inner_text()
    changed = sample.locator(".candidate", has=page.get_by_text("changed by the attack"))
    assert changed.count() == 1
    rows = sample.locator("table").first.locator("tbody tr").all_inner_texts()
    assert rows[0].startswith("Attacked text")
    assert len(rows) == sample.locator(".candidate").count()
    assert all(text.strip() for text in sample.locator("table").first.locator("strong").all_inner_texts())


def test_what_is_learned_first_has_examples(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    rows = page.locator("#learned tbody tr")
    assert rows.count() >= 5
    assert all(row.locator(".excerpt").inner_text() for row in rows.all())
    attack = rows.first.locator("button").inner_text()
    rows.first.locator("button").click()
    assert page.get_by_role("combobox", name="Attack").input_value() == attack
    assert page.locator("#learned h3").all_inner_texts() == ["flip", "flip guarded", "listwise"]


def test_blind_spots_are_named(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    assert page.locator("#broken li").all_inner_texts()[0] == "flip does not surely see swapped names"
    assert page.locator("#kept li").all_inner_texts()[1].startswith("flip guarded moves with none")
    page.locator("#broken li button").first.click()
    assert page.get_by_role("combobox", name="Attack").input_value() == "broken.names"


def test_every_chart_is_drawn_named_and_beside_a_table(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    for section in ("slopes", "broken", "kept"):
        pictures = page.locator(f"#{section} svg[role=img][aria-label]")
        assert pictures.count() == 3, section
        assert page.locator(f"#{section} table caption").count() == 3
        for box in (pictures.nth(index).bounding_box() for index in range(3)):
            assert box is not None
            assert box["height"] > 60
            assert box["width"] > 200


def test_what_has_no_score_stands_apart(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    assert "unparseable reply" in page.locator("#unscored").inner_text()
    page.locator("#unscored summary").click()
    row = page.locator("#unscored details tbody tr").inner_text().split("\t")
    assert row == [SILENT, "listwise", str(30 + len(HOSTILE)), str(30 + len(HOSTILE))]


def test_hostile_texts_are_texts(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    seen = 0
    for index in range(len(HOSTILE)):
        page.get_by_role("searchbox").fill(f"hostile-{index}<i>")
        page.wait_for_timeout(300)
        if page.locator("#list button").count() == 0:  # not among the worst
            continue
        seen += 1
        page.locator("#list button").first.click()
        assert page.locator("#sample h3").inner_text().endswith(f"hostile-{index}<i>")
        within = page.eval_on_selector_all(
            "#sample .text *", "all => all.filter(one => one.localName != 'mark').length"
        )
        assert within == 0
        assert page.evaluate("document.querySelectorAll('img, iframe, script[src], svg script').length") == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert seen > len(HOSTILE) / 2


@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_phone_needs_no_sideways_scrolling(read: Read, audited: Shown, width: int) -> None:
    page = read(width=width, height=740, shown=audited).open()
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate(fits)
    page.locator("#list button").nth(3).click()
    assert page.evaluate(fits)
    assert page.evaluate(HIDDEN) == ""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(read: Read, audited: Shown, *, dark: bool) -> None:
    page = read(dark=dark, shown=audited).open()
    assert page.evaluate(CONTRASTS) == []


def test_the_keyboard_reaches_everything(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "samples-title"
    page.locator("#figure").focus()
    page.keyboard.press("Tab")
    place = "[document.activeElement.dataset.attack, document.activeElement.dataset.reward]"
    assert page.evaluate(place) == ["copy.alone", FLIP]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(place) == ["copy.before", JUDGE]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(place) == ["copy.before", FLIP], "the edge holds"
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    assert page.evaluate(place) == [SILENT, FLIP], "over the name of a family"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.localName") == "summary", "the map is one stop"
    page.locator(cell("copy.alone", FLIP)).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "samples-title"
    page.locator("#list button").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "sample-title"
    page.keyboard.press("j")
    assert page.locator("#position").inner_text() == "2 of 5"


def test_a_screen_reader_hears_names_and_levels(read: Read, audited: Shown) -> None:
    page = read(shown=audited).open()
    heard = page.locator("body").aria_snapshot()
    for part in (
        'navigation "Sections"', 'heading "Attacks" [level=2]', 'combobox "Figure"', 'combobox "Attack"',
        'table "Win rate of each attack by reward model"', 'rowheader "copy.before"', 'columnheader "listwise"',
    ):  # fmt: skip
        assert part in heard, part
    unnamed = "all => all.filter(one => !one.labels?.length && !one.ariaLabel && !one.textContent.trim()).length"
    assert page.eval_on_selector_all("button, input, select", unnamed) == 0
    levels = page.eval_on_selector_all("h1, h2, h3, h4, h5", "all => all.map(one => +one.tagName[1])")
    assert all(next_ - level <= 1 for level, next_ in pairwise(levels))
    ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_a_large_audit_opens_quickly(read: Read, tmp_path: Path) -> None:
    made = make_audit(tmp_path, prompts=200, fillers=80 - len(make_attacks()), rewards=6)
    page_file = build_audit_page(tmp_path, made)
    assert page_file.stat().st_size < 3_000_000
    reader = read(shown=Shown(page_file.as_uri(), TITLE, tmp_path))
    start = perf_counter()
    page = reader.open()
    assert perf_counter() - start < 5
    assert page.locator(".heat button").count() == 6 * 80 - 1
    start = perf_counter()
    choose(page, "Figure", "gain")
    page.get_by_text("All figures as a table").click()
    page.locator("#attacks details tbody tr").nth(479).wait_for()
    assert perf_counter() - start < 5


@pytest.mark.parametrize("hash_", ["#figure=x&attack=x&reward=x&show=x&sort=x&page=9&sample=x", "#%", "#a=b"])
def test_an_odd_address_shows_the_page_all_the_same(read: Read, audited: Shown, hash_: str) -> None:
    page = read(shown=audited).open("")
    page.evaluate(f"location.hash = '{hash_}'")
    assert page.locator("#failure").is_hidden()
    assert page.locator(".heat button").count() > 0
    assert page.locator("#figure").input_value() == "win_rate"


def test_an_audit_without_any_answer_says_so(read: Read, tmp_path: Path) -> None:
    made = make_audit(tmp_path, prompts=2)
    results = made.results.model_copy(
        update={"results": [], "slopes": [], "audited": [], "headline": "Nothing is known"}
    )
    silent = AuditData(made.audit, results, made.prompts, {})
    reader = read(shown=Shown(build_audit_page(tmp_path, silent).as_uri(), TITLE, tmp_path))
    reader.page.goto(reader.address)
    reader.page.wait_for_selector("#making dd", state="attached")
    page = reader.page
    assert page.locator(".finding").inner_text() == "Nothing is known."
    assert page.locator("#missing").inner_text().startswith("Not scored to the end: flip @")
    assert page.locator("#failure").is_hidden()
    assert page.locator("#figure").is_hidden()
    assert count(page) == "0 texts"
