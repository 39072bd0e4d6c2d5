"""Grades of items and their means, on cases small enough to be computed by hand."""

import random
from dataclasses import replace

import pytest

from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.grading import Grade, grade_best
from tests.unit.evaluation.items import figure, figures, grade, item, known, said, turned


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
         {"adversarial mean": 1, "adversarial mean, authors' rule": 1, "agreement between orders": 1}),
        ("llmbar", ("natural", "neighbor", "gptinst", "gptout", "manual"), "manual",
         {"natural": 1, "natural, authors' rule": 1, "agreement between orders": 1}),
        ("rewardbench2", ("Factuality", "Precise IF", "Math", "Focus"), "Math", {}),
    ],
)  # fmt: skip
def test_a_silent_subset_is_in_no_figure(
    protocol: str, subsets: tuple[str, ...], silent: str, known_figures: dict[str, float]
) -> None:
    items = [item(f"{subset}{n}", subset, rejected=3) for subset in subsets for n in range(2)]
    mute, right = said(None, None, None, None), said(1, 0, 0, 0)
    graded = grade(protocol, items, [mute if one.subset == silent else right for one in items])
    assert graded.mean(graded.fractional, {silent}) is None
    assert known(graded.mean(graded.as_wrong)).value == pytest.approx(1 - 1 / len(subsets)), "it is partly answered"
    assert figures(graded) == known_figures


def test_ties_that_were_never_answered_have_no_score() -> None:
    items = [item(name, "Ties", chosen=2, rejected=2) for name in ("ref:1", "tied:1")]
    assert "Ties score" in figures(grade("rewardbench2", items, [said(2, 2, 1, 1)] * 2))
    assert figures(grade("rewardbench2", items, [said(None, None, None, None)] * 2)) == {}
    assert figures(grade("rewardbench2", items, [said(None, 2, 1, 1)] * 2)).keys() == {"Ties score, authors' rule"}


class TestLengths:
    """In these items "good" is longer than "bad" by one letter, unless they are turned."""

    def test_the_accuracies_where_the_better_response_is_longer_and_shorter_count_the_same(self) -> None:
        items = [item("a"), item("b"), item("c"), turned(item("d"))]
        graded = grade("preference", items, [said(1, 0), said(1, 0), said(0, 1), said(1, 0)])
        found = known(graded.length_balanced())
        assert found.value == pytest.approx((2 / 3 + 1) / 2)
        assert found.n == 4
        assert 0 <= found.low < found.value < found.high <= 1

    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize("name", ["llmbar", "preference", "rewardbench2", "rm-bench"])
    def test_length_itself_has_one_half(self, name: str, sign: int) -> None:
        lengths = random.Random(3)
        sizes = (3, 3) if name == "rm-bench" else (1, 3) if name == "rewardbench2" else (1, 1)
        items = [
            BenchmarkItem.of(
                str(number),
                "natural" if name == "llmbar" else "Math",
                f"Do {number}.",
                [lengths.randrange(1, 9) * "x" + str(index) for index in range(sizes[0])],
                [lengths.randrange(1, 9) * "x" + str(index) for index in range(sizes[1])],
            )
            for number in range(40)
        ]
        given = [said(*(float(sign * len(text)) for text in one.group.responses)) for one in items]
        assert known(grade(name, items, given).length_balanced()).value == 0.5

    def test_ties_and_unscored_items_count_one_half_and_equal_lengths_not_at_all(self) -> None:
        alike = BenchmarkItem.of("e", "all", "Do e.", ["long"], ["four"])
        items = [item("a"), item("b"), turned(item("c")), alike]
        graded = grade("preference", items, [said(1, 1), said(None, 0), said(1, 0), said(1, 0)])
        found = known(graded.length_balanced())
        assert (found.value, found.n) == (0.75, 3)

    def test_without_both_kinds_or_a_verdict_there_is_none(self) -> None:
        longer, both = [item("a"), item("b")], [item("a"), turned(item("b"))]
        assert grade("preference", longer, [said(1, 0)] * 2).length_balanced() is None
        assert grade("preference", both, [said(None, 0)] * 2).length_balanced() is None

    def test_an_item_of_several_pairs_counts_by_their_mean(self) -> None:
        """Of the pairs of the first item, one is right where the better is longer, and one of two where shorter."""
        one = BenchmarkItem.of("a", "all", "Do a.", ["four"], ["one", "longer", "longest"])
        graded = grade("preference", [one], [said(2, 1, 1, 3)])
        assert known(graded.length_balanced()).value == (1 + 1 / 2) / 2

    def test_thinking_has_no_length(self) -> None:
        one = BenchmarkItem.of("a", "all", "Do a.", ["<think>Hm, let me see.</think>Yes."], ["Never."])
        both = [one, item("b")]
        assert known(grade("preference", both, [said(1, 0), said(0, 1)]).length_balanced()).value == 0.5


def test_items_with_the_same_conversation_are_a_cluster() -> None:
    items = [item("a"), item("b"), item("c")]
    items[2] = replace(items[2], group=replace(items[2].group, messages=items[0].group.messages))
    assert grade("preference", items, [said(1, 0)] * 3).clusters == (0, 1, 0)


def test_weighted_means() -> None:
    items = [item(f"{subset}{n}", subset) for subset in "ab" for n in range(4)]
    graded = grade("preference", items, [said(1, 0)] * 5 + [said(0, 1)] * 3)
    assert known(graded.weighted_mean(graded.fractional, {"a": 0.9, "b": 0.1})).value == pytest.approx(0.925)
    assert graded.weighted_mean(graded.fractional, {"a": 0.9, "c": 0.1}) is None
