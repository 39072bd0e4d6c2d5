"""Grades of items and their means, on cases small enough to be computed by hand."""

import pytest

from flip_reward.evaluation.grading import Grade, grade_best
from tests.unit.evaluation.items import figure, figures, grade, item, known, said


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([0.9, 0.1, 0.2, 0.3], Grade(1.0, 1.0)),
        ([0.1, 0.9, 0.2, 0.3], Grade(0.0, 0.0)),
        ([0.9, 0.9, 0.2, 0.3], Grade(0.0, 1 / 2)),
        ([0.9, 0.9, 0.9, 0.9], Grade(0.0, 1 / 4)),
        ([0.1, 0.9, 0.9, 0.3], Grade(0.0, 0.0)),
    ],
)
def test_one_of_four(rewards: list[float], expected: Grade) -> None:
    assert grade_best([True, False, False, False], rewards) == expected


def test_two_chosen_at_the_top_are_right_and_one_beside_a_rejected_one_is_a_tie() -> None:
    assert grade_best([True, True, False], [5, 5, 1]) == Grade(1.0, 1.0)
    assert grade_best([True, True, False], [5, 5, 5]) == Grade(0.0, 2 / 3)


def test_unscored_items_are_counted_in_three_ways() -> None:
    items = [item("a", rejected=3), item("b", rejected=3), item("c", rejected=3), item("d", rejected=3)]
    graded = grade("preference", items, [said(1, 0, 0, 0), said(0, 1, 0, 0), said(1, 1, 0, 0), said(None, 0, 0, 0)])
    assert list(graded.strict) == [1, 0, 0, 0]
    assert list(graded.fractional) == [1, 0, 0.5, 0.25]
    assert list(graded.as_wrong) == [1, 0, 0.5, 0]
    left = known(graded.mean(graded.excluded))
    assert (left.value, left.n) == (0.5, 3)
    assert list(graded.unscored) == [0, 0, 0, 1]


def test_runs_are_averaged_item_by_item() -> None:
    graded = grade("preference", [item("a"), item("b")], [said(1, 0), said(None, 0)], [said(0, 1), said(1, 0)])
    assert list(graded.strict) == [0.5, 0.5]
    assert list(graded.fractional) == [0.5, 0.75]
    assert list(graded.excluded) == [0.5, 1.0]
    assert list(graded.unscored) == [0, 0.5]


def test_figures_have_intervals_that_hold_their_value() -> None:
    items = [
        item(f"{name}{n}", name) for name in ("natural", "neighbor", "gptinst", "gptout", "manual") for n in "abcd"
    ]
    graded = grade("llmbar", items, [said(n % 3 > 0, 0.5) for n in range(20)])
    for found in graded.protocol.figures(graded):
        estimate = known(found.estimate)
        assert estimate.low <= estimate.value <= estimate.high
        assert found.note
    wide = known(figure(graded, "average").estimate)
    assert wide.low < wide.value < wide.high


def test_what_never_answered_has_no_accuracy() -> None:
    graded = grade("preference", [item("a"), item("b")], [said(None, 0), said(None, None)], [said(1, None)] * 2)
    rules = (graded.strict, graded.fractional, graded.as_wrong, graded.excluded)
    assert [graded.mean(values) for values in rules] == [None] * 4
    assert graded.mean_of_subsets(graded.fractional) is None


@pytest.mark.parametrize(
    ("protocol", "subsets", "silent", "known_figures"),
    [
        ("llmbar", ("natural", "neighbor", "gptinst", "gptout", "manual"), "natural",
         {"adversarial mean": 1, "agreement between orders": 1}),
        ("llmbar", ("natural", "neighbor", "gptinst", "gptout", "manual"), "manual",
         {"natural": 1, "agreement between orders": 1}),
        ("rewardbench2", ("Factuality", "Precise IF", "Math", "Focus"), "Math", {}),
    ],
)  # fmt: skip
def test_a_silent_subset_is_in_no_figure(
    protocol: str, subsets: tuple[str, ...], silent: str, known_figures: dict[str, float]
) -> None:
    items = [item(f"{subset}{n}", subset, rejected=3) for subset in subsets for n in range(2)]
    graded = grade(protocol, items, [said(None if one.subset == silent else 1, 0, 0, 0) for one in items])
    assert graded.mean(graded.fractional, {silent}) is None
    assert known(graded.mean(graded.as_wrong)).value == pytest.approx(1 - 1 / len(subsets)), "it is partly answered"
    assert figures(graded) == known_figures


def test_ties_that_were_never_answered_have_no_score() -> None:
    items = [item(name, "Ties", chosen=2, rejected=2) for name in ("ref:1", "tied:1")]
    assert "Ties score" in figures(grade("rewardbench2", items, [said(2, 2, 1, 1)] * 2))
    assert figures(grade("rewardbench2", items, [said(None, 2, 1, 1)] * 2)) == {}
