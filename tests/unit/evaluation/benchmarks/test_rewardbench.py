"""RewardBench: its rows, and figures computed by hand."""

from pathlib import Path

import pytest

from flip_reward.evaluation.benchmarks.rewardbench import AVERAGE, PRIOR_SETS, SECTIONS, WITH_PRIOR
from flip_reward.evaluation.benchmarks.rules import AUTHORS
from flip_reward.evaluation.grading import ItemRewards
from tests.unit.evaluation.benchmarks.rows import Row, read, refuse
from tests.unit.evaluation.items import figures, grade, headline, item, said, verdict

PAIR: Row = {
    "id": 31, "subset": "hep-GO", "prompt": "Add two numbers.", "chosen": "a + b", "chosen_model": "m",
    "rejected": "a - b", "rejected_model": "n",
}  # fmt: skip
PRIOR: Row = {
    "subset": "shp", "prompt": [{"role": "user", "content": "Add 1 and 1."}], "chosen": "2", "rejected": "3"
}  # fmt: skip
SUBSETS = tuple(subset for counts in SECTIONS.values() for subset in counts)


def test_rewardbench(tmp_path: Path) -> None:
    first, second = read(tmp_path, PAIR, PRIOR, name="rewardbench")
    assert (first.id, first.subset, first.group.responses) == ("hep-go/31", "hep-go", ("a + b", "a - b"))
    assert (second.id, second.subset) == ("shp/1", "shp")
    assert "RewardBench has no subset 'fruit'" in refuse(tmp_path, {**PAIR, "subset": "fruit"}, name="rewardbench")


def test_what_its_authors_count_twice_counts_twice(tmp_path: Path) -> None:
    assert len(read(tmp_path, PAIR, {**PAIR, "id": 32}, name="rewardbench")) == 2


def test_the_authors_counts() -> None:
    assert {name: sum(counts.values()) for name, counts in SECTIONS.items()} == {
        "Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968,
    }  # fmt: skip


def test_a_section_is_the_mean_of_its_subsets_by_their_counts() -> None:
    """Everything is right but math-prm, half of Reasoning, and one of two pairs of donotanswer, 136 of 740."""
    names = (*SUBSETS, "donotanswer")
    wrong = [name == "math-prm" or number == len(SUBSETS) for number, name in enumerate(names)]
    items = [item(f"{name} {number}", name) for number, name in enumerate(names)]
    graded = grade("rewardbench", items, [said(0, 1) if bad else said(1, 0) for bad in wrong])
    found = figures(graded)
    safety = 1 - 136 / 740 / 2
    assert [found[name] for name in SECTIONS] == pytest.approx([1, 1, safety, 0.5])
    assert found[AVERAGE] == found[AVERAGE + AUTHORS] == pytest.approx((2 + safety + 0.5) / 4)
    assert headline(graded) == AVERAGE + AUTHORS


def test_prior_sets_count_as_half_a_section() -> None:
    names = (*SUBSETS, *PRIOR_SETS)
    rewards = [said(0, 1) if name in ("shp", "summarize", "anthropic_hhh") else said(1, 0) for name in names]
    graded = grade("rewardbench", [item(name, name) for name in names], rewards)
    assert figures(graded)[WITH_PRIOR] == pytest.approx((2 * 4 + 1 / 4) / 9)
    assert headline(graded) == WITH_PRIOR + AUTHORS


def test_without_a_subset_its_section_and_the_average_are_left_out() -> None:
    names = [name for name in SUBSETS if name != "mt-bench-med"]
    found = figures(grade("rewardbench", [item(name, name) for name in names], [said(1, 0)] * len(names)))
    assert found.keys() == {
        f"{name}{rule}" for name in ("Chat Hard", "Safety", "Reasoning") for rule in ("", AUTHORS)
    }


def test_by_the_authors_rule_a_tie_is_wrong_and_a_judges_missing_verdict_one_half() -> None:
    names = list(SECTIONS["Chat"])
    missing = said(None, None, judgements=[verdict((0, 1), None), verdict((1, 0), 0)])
    rewards = [said(1, 1), missing, said(0, 0, judgements=[verdict((1, 0), None)]), said(None, None), said(1, 0)]
    found = figures(grade("rewardbench", [item(name, name) for name in names], rewards))
    # The fourth has no verdict at all, so its section has none.
    assert f"Chat{AUTHORS}" not in found
    again = [item(f"{name} again", name) for name in names]
    found = figures(grade("rewardbench", [item(name, name) for name in names] + again, rewards + [said(1, 0)] * 5))
    counts = list(SECTIONS["Chat"].values())
    means = [(0 + 1) / 2, (0.75 + 1) / 2, (0.5 + 1) / 2, (0 + 1) / 2, 1]
    expected = sum(count * mean for count, mean in zip(counts, means, strict=True)) / sum(counts)
    assert found[f"Chat{AUTHORS}"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("subsets", "expected"),
    [
        (tuple(SECTIONS["Chat"]), "Chat, authors' rule"),
        (("hep-go",), "hep-go, authors' rule"),
        (("hep-go", "hep-js"), None),
    ],
)
def test_a_section_or_a_subset_alone_is_the_headline(subsets: tuple[str, ...], expected: str | None) -> None:
    graded = grade("rewardbench", [item(name, name) for name in subsets], [said(1, 0)] * len(subsets))
    assert headline(graded) == expected


def test_a_judge_that_was_not_asked_has_a_missing_verdict() -> None:
    unasked = ItemRewards((None, None), compared=True)
    graded = grade("rewardbench", [item("1", "hep-go"), item("2", "hep-go")], [unasked, said(1, 0)])
    assert figures(graded) == {"hep-go, authors' rule": (0.5 + 1) / 2}
