"""The samples of a report: filters, search, order, and what a sample shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flip_reward.report.evaluation.page import build_report
from tests.e2e.report.reader import ITEMS, Made, Read, Shown, choose, count, shown_ids
from tests.unit.report.evaluation.test_page import add_noise
from tests.unit.report.make_evaluation import HOSTILE, REWARDS, make_evaluation

UNSCORED = 11  # an item that every reward of the made evaluation leaves unscored


def positions(made: Made, wanted: Callable[[str, str, str], bool]) -> list[str]:
    """The ids of the samples about which the decisions of flip, pointwise and pairwise are as wanted."""
    flip, pointwise, pairwise = (cell.decisions for cell in sorted(made.llmbar.cells, key=lambda cell: cell.reward))
    return [
        sample.id
        for sample, *decisions in zip(made.llmbar.samples, flip, pointwise, pairwise, strict=True)
        if wanted(*decisions)
    ]


def test_filters(read: Read, made: Made) -> None:
    page = read().open()
    assert count(page) == f"{ITEMS + len(HOSTILE)} samples"
    choose(page, "Subset", "hostile")
    assert count(page) == f"{len(HOSTILE)} of {ITEMS + len(HOSTILE)} samples"
    page.get_by_role("button", name="Clear the filters").click()
    wanted: dict[tuple[str, str], Callable[[str, str, str], bool]] = {
        ("", "right"): lambda *all_: set(all_) == {"r"},
        ("", "wrong"): lambda *all_: set(all_) <= {"w", "t"},
        ("", "tied"): lambda *all_: "t" in all_,
        ("", "unscored"): lambda *all_: "u" in all_,
        ("", "disagreement"): lambda *all_: "r" in all_ and bool({"w", "t"} & set(all_)),
        ("flip", "right"): lambda flip, _, __: flip == "r",
        ("pointwise", "wrong"): lambda _, pointwise, __: pointwise in "wt",
        ("pairwise", "unscored"): lambda _, __, pairwise: pairwise == "u",
        ("flip", "disagreement"): lambda flip, *others: (
            flip != "u" and any((flip == "r") != (other == "r") for other in others if other != "u")
        ),
    }
    for (reward, show), matches in wanted.items():
        choose(page, "Reward model", REWARDS.get(reward, ""))
        choose(page, "Show", show)
        expected = positions(made, matches)
        assert expected, "the made evaluation has such samples"
        assert count(page) == f"{len(expected)} of {ITEMS + len(HOSTILE)} samples", (reward, show)
        assert shown_ids(page, made) == expected[:25], (reward, show)


def test_search(read: Read, made: Made) -> None:
    page = read().open()
    search = page.get_by_role("searchbox", name="Search")
    search.fill("WIND turbines landlord")
    page.get_by_text(f" of {ITEMS + len(HOSTILE)} samples").wait_for()
    found = [
        sample.id
        for sample in made.llmbar.samples
        if all(
            word in " ".join(made.texts[text] for text in (sample.messages[-1][1], *sample.responses)).lower()
            for word in ("wind", "turbines", "landlord")
        )
    ]
    assert found
    assert shown_ids(page, made) == found
    assert page.evaluate("document.activeElement.id") == "search", "the keyboard stays where it is"
    search.fill("no such words anywhere")
    page.get_by_text(f"0 of {ITEMS + len(HOSTILE)} samples", exact=True).wait_for()
    assert page.locator("#sample").is_hidden()
    search.fill("llmbar/natural/7")
    page.locator("#list button").first.wait_for()
    assert "llmbar/natural/7" in shown_ids(page, made)


def test_where_some_samples_stand_for_all_the_page_says_so(read: Read, tmp_path: Path) -> None:
    make_evaluation(tmp_path, items=700)
    add_noise(tmp_path / "items/llmbar.jsonl", characters=900)
    path = build_report(tmp_path, max_bytes=720_000)
    page = read(shown=Shown(path.as_uri(), "llmbar, best-of-4 · flip-reward evaluation", tmp_path)).open()
    assert page.locator("#byline").inner_text().startswith("770 samples")
    note = page.locator("#part").inner_text()
    assert " of 770 items are in this file" in note
    shown = int(count(page).split()[0])
    choose(page, "Show", "unscored")
    assert 0 < int(count(page).split()[0]) < shown < 700
    assert read().open().locator("#part").is_hidden()


def test_sorting(read: Read, made: Made) -> None:
    page = read().open()
    choose(page, "Reward model", REWARDS["flip"])
    choose(page, "Sort", "margin")
    scores = {
        sample.id: [row[0] if row else None for row in rows]
        for sample, rows in zip(made.llmbar.samples, made.llmbar.cells[0].scores, strict=True)
    }
    margins = [scores[id_][0] - scores[id_][1] for id_ in shown_ids(page, made)]  # type: ignore[operator]
    assert margins == sorted(margins)
    assert margins[0] < 0
    choose(page, "Sort", "length")
    assert shown_ids(page, made)[0].startswith("hostile/7"), "the one of 200,000 characters"
    choose(page, "Sort", "id")
    assert [id_.split("/")[1].partition("<")[0] for id_ in shown_ids(page, made)[:3]] == ["0", "1", "2"]


def test_pages(read: Read, made: Made) -> None:
    page = read().open()
    everything = [sample.id for sample in made.llmbar.samples]
    assert shown_ids(page, made) == everything[:25]
    page.get_by_role("button", name="Later").click()
    assert shown_ids(page, made) == everything[25:50]
    page.get_by_role("button", name="Earlier").click()
    assert page.get_by_role("button", name="Earlier").is_disabled()


def test_a_sample_shows_what_every_reward_made_of_it(read: Read, made: Made) -> None:
    page = read().open("#sample=llmbar%2Fnatural%2F0")
    sample = page.locator("#sample")
    assert sample.locator("h3").inner_text() == "llmbar/natural/0"
    assert sample.locator(".turn .text").all_inner_texts() == [made.texts[made.llmbar.samples[0].messages[0][1]]]
    assert [heading.split("\n")[0].split(" character")[0] for heading in sample.locator("h4").all_inner_texts()]
    assert sample.locator(".candidate").count() == 2
    inference = sample.locator(".inference").first
    row = made.llmbar.cells[0].scores[0][0]
    assert row is not None
    _, _, precision, recall, inferred, marks = row[:6]
    text = made.texts[inferred]  # type: ignore[call-overload]
    expected = [text[start:end] for start, end in zip(marks[::2], marks[1::2], strict=True)]  # type: ignore[index]
    assert inference.locator("> div").first.locator("mark").all_inner_texts() == expected
    assert inference.locator("> div").first.locator(".text").inner_text() == text
    measures = inference.locator(".measures").inner_text().split()
    assert measures[::2] == ["Precision", "Recall", "F1"]
    assert measures[1::2] == [
        f"{value:.3f}"
        for value in (precision, recall, 2 * precision * recall / (precision + recall))  # type: ignore[operator]
    ]
    assert "The response is clear" in sample.inner_text()
    assert "It follows the requested form." in sample.inner_text()


def test_several_inferences_are_listed_with_their_values(read: Read, made: Made) -> None:
    page = read().open("#subset=hostile")
    hostile = [place for place, sample in enumerate(made.llmbar.samples) if sample.id.startswith("hostile/")]
    for button, place in enumerate(hostile[:3]):
        page.locator("#list button").nth(button).click()
        row = made.llmbar.cells[0].scores[place][0]
        assert row is not None
        spread, inferences = row[11:]
        details = page.locator("#sample .candidate").first.locator("details", has=page.locator(".inferences"))
        assert details.locator("summary").inner_text() == f"4 inferences, spread {spread:.3f}"
        assert not details.locator("li").first.is_visible(), "closed until it is asked for"
        details.locator("summary").click()
        assert details.locator(".value").all_inner_texts() == [f"{value:.3f}" for value, _, _ in inferences[:3]]  # type: ignore[index]
        assert details.locator(".text").all_inner_texts() == [made.texts[text] for _, text, _ in inferences[:3]]  # type: ignore[index]
        assert details.locator("li").last.inner_text() == "unparseable reply"


def test_an_unscored_sample_says_why_and_shows_the_reply(read: Read, made: Made) -> None:
    sample_id = made.llmbar.samples[UNSCORED].id
    page = read().open(f"#sample={sample_id.replace('/', '%2F')}")
    assert page.locator("#sample .decision.unscored").count() == 3
    assert page.locator("#sample .judgement .unscored").first.inner_text() == "Unscored: empty reply"
    page.get_by_text("The reply as it came").first.click()
    assert page.get_by_text("I think so.").first.is_visible()


def test_the_address_keeps_what_is_chosen(read: Read, made: Made) -> None:
    reader = read()
    page = reader.open()
    choose(page, "Subset", "natural")
    choose(page, "Show", "disagreement")
    page.locator("#list button").nth(2).click()
    ids, title = shown_ids(page, made), page.locator("#sample h3").inner_text()
    again = reader.open(page.url.partition("#")[2].join(["#", ""]))
    assert (shown_ids(again, made), again.locator("#sample h3").inner_text()) == (ids, title)
    assert again.get_by_role("combobox", name="Show").input_value() == "disagreement"


def test_the_way_back_closes_a_sample(read: Read) -> None:
    page = read(width=400, height=800).open()
    page.locator("#list button").nth(1).click()
    assert page.locator("#list").is_hidden()
    page.go_back()
    assert page.locator("#list").is_visible()
    page.go_forward()
    page.get_by_role("button", name="Back to the list").click()
    assert page.locator("#list").is_visible()


@pytest.mark.parametrize(
    "hash_", ["#sample=nobody&subset=none&reward=x&show=x&sort=x&page=999999", "#%", "#=&&=", "#a=b"]
)
def test_an_odd_address_shows_the_report_all_the_same(read: Read, hash_: str) -> None:
    page = read().open(hash_)
    assert page.locator("#list button").count() > 0
    assert page.locator("#failure").is_hidden()
