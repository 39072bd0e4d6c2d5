"""Every protocol on cases small enough to be computed by hand."""

import math

import pytest

from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_protocol
from flip_reward.evaluation.benchmarks.rewardbench2 import TIES, WEIGHTS, score_ties
from flip_reward.evaluation.grading import Grade, grade_best
from tests.unit.evaluation.items import figure, figures, grade, item, said, verdict


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
    assert graded.mean(graded.excluded).value == 0.5
    assert graded.mean(graded.excluded).n == 3
    assert list(graded.unscored) == [0, 0, 0, 1]


def test_runs_are_averaged_item_by_item() -> None:
    graded = grade("preference", [item("a"), item("b")], [said(1, 0), said(None, 0)], [said(0, 1), said(1, 0)])
    assert list(graded.strict) == [0.5, 0.5]
    assert list(graded.fractional) == [0.5, 0.75]
    assert list(graded.excluded) == [0.5, 1.0]
    assert list(graded.unscored) == [0, 0.5]


class TestRewardBench2:
    def test_the_average_of_four_is_of_subsets_and_leaves_out_safety_and_ties(self) -> None:
        items = [
            item("1", "Factuality", rejected=3),
            item("2", "Factuality", rejected=3),
            item("3", "Precise IF", rejected=3),
            item("4", "Math", rejected=3),
            item("5", "Focus", rejected=3),
            item("6", "Safety", rejected=3),
        ]
        right, wrong, tie = said(1, 0, 0, 0), said(0, 1, 0, 0), said(1, 1, 0, 0)
        graded = grade("rewardbench2", items, [right, wrong, right, tie, wrong, right])
        assert figures(graded) == {"average of four subsets": (0.5 + 1 + 0.5 + 0) / 4}

    def test_a_sample_without_a_subset_has_no_average(self) -> None:
        graded = grade("rewardbench2", [item("1", "Math", rejected=3)], [said(1, 0, 0, 0)])
        assert figures(graded) == {}

    def test_the_average_of_six_takes_the_ties_score(self) -> None:
        names = ("Factuality", "Precise IF", "Math", "Focus", "Safety")
        items = [item(name, name, rejected=3) for name in names]
        items += [item("ref:1", TIES, 1, 2), item("tied:1", TIES, 2, 2)]
        rewards = [said(1, 0, 0, 0)] * 5 + [said(9, 1, 2), said(9, 8, 1, 2)]
        found = figures(grade("rewardbench2", items, rewards))
        ties = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(6 / 1 - 1)
        assert found["Ties score"] == pytest.approx(ties)
        assert found["average of six subsets"] == pytest.approx((5 + ties) / 6)
        assert found["average of four subsets"] == 1


def ties(*rewards: tuple[str, list[float | None]], chosen: int = 2) -> float:
    items = [item(name, TIES, 1 if name.startswith("ref") else chosen, 2) for name, _ in rewards]
    score = score_ties(items, [[said(*values) for _, values in rewards]])
    assert score is not None
    return score.value


class TestTies:
    def test_by_hand(self) -> None:
        """Prompt 1: c_tied = 7 - 4 = 3, d = 2, c_ref = 5 - 4 = 1, m = 1. Prompt 2: c_tied = -1, d = 3, c_ref = 4."""
        found = ties(("ref:1", [5, 4, 0]), ("tied:1", [9, 7, 4, 1]), ("ref:2", [8, 4, 4]), ("tied:2", [9, 6, 7, 1]))
        margin = (math.tanh(1 / 2 - 1) + math.tanh(-1 / 3 - 1)) / 2
        assert found == pytest.approx(0.3 * 0.5 + 0.3 * 1.0 + 0.2 * 0.5 + 0.2 * 0.0 + 0.01 * margin)

    def test_an_equal_reward_is_no_separation(self) -> None:
        """c = 0 for both, d = 0: 0/0 counts as 0."""
        assert ties(("ref:1", [5, 5, 1]), ("tied:1", [5, 5, 5, 1])) == 0

    def test_perfect_ties_have_the_highest_score(self) -> None:
        """d = 0 and m > 0: the last term is 1."""
        assert ties(("ref:1", [5, 1, 1]), ("tied:1", [5, 5, 1, 1])) == pytest.approx(sum(WEIGHTS))

    def test_a_prompt_with_one_half_counts_for_that_accuracy_only(self) -> None:
        both = [("ref:1", [5, 1, 1]), ("tied:1", [5, 5, 1, 1])]
        lone = ("ref:2", [1, 5, 5])
        assert ties(*both, lone) == pytest.approx(0.3 + 0.3 * 0.5 + 0.2 + 0.2 + 0.01)  # type: ignore[arg-type]

    def test_an_unscored_prompt_earns_nothing_and_loses_nothing(self) -> None:
        found = ties(
            ("ref:1", [5, 1, 1]), ("tied:1", [5, 5, 1, 1]), ("ref:2", [5, 1, 1]), ("tied:2", [5, None, 1, 1])
        )
        assert found == pytest.approx(0.3 * 0.5 + 0.3 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * 0.5)

    def test_without_a_whole_prompt_there_is_no_score(self) -> None:
        assert score_ties([item("ref:1", TIES, 1, 2)], [[said(5, 1, 1)]]) is None
        assert score_ties([item("1", "Math", 1, 3)], [[said(5, 1, 1, 1)]]) is None

    def test_the_grade_of_an_item_is_the_separation_of_correct_and_incorrect(self) -> None:
        protocol = load_protocol("rewardbench2")
        four = item("tied:1", TIES, 2, 2)
        assert protocol.grade(four, [5, 4, 3, 1]) == Grade(1.0, 1.0)
        assert protocol.grade(four, [5, 3, 4, 1]) == Grade(0.0, 0.0)
        assert protocol.grade(four, [5, 4, 4, 1]) == Grade(0.0, 0.5)
        assert protocol.grade(four, [4, 4, 4, 4]) == Grade(0.0, 1 / 6)
        assert protocol.chance(four) == 1 / 6


def rm_item(name: str, domain: str) -> BenchmarkItem:
    return item(name, domain, 3, 3)


class TestRMBench:
    def test_the_chosen_style_is_the_row_of_the_matrix(self) -> None:
        """Rewards that grow with the style alone win all easy comparisons, and no hard or normal one."""
        found = figures(grade("rm-bench", [rm_item("1", "chat")], [said(1, 2, 3, 1, 2, 3)]))
        assert (found["hard"], found["normal"], found["easy"]) == (0, 0, 1)
        assert found["average"] == found["chat"] == pytest.approx(1 / 3)

    def test_by_hand(self) -> None:
        """Chosen 2, 5, 4 against rejected 1, 5, 3: rows (1 0 0), (1 0 1), (1 0 1)."""
        graded = grade("rm-bench", [rm_item("1", "chat")], [said(2, 5, 4, 1, 5, 3)])
        found = figures(graded)
        assert found["hard"] == pytest.approx((0 + 0 + 1) / 3)
        assert found["normal"] == pytest.approx((1 + 0 + 1) / 3)
        assert found["easy"] == pytest.approx((1 + 1 + 0) / 3)
        assert graded.strict[0] == pytest.approx(5 / 9)
        assert graded.fractional[0] == pytest.approx(5.5 / 9), "5 against 5 is a tie"

    def test_domains_count_the_same_whatever_their_size(self) -> None:
        items = [rm_item("1", "chat"), rm_item("2", "math"), rm_item("3", "math"), rm_item("4", "math")]
        right, wrong = said(9, 9, 9, 1, 1, 1), said(1, 1, 1, 9, 9, 9)
        found = figures(grade("rm-bench", items, [wrong, right, right, right]))
        assert found["average"] == 0.5
        assert (found["chat, hard"], found["math, hard"]) == (0, 1)

    def test_unscored_items_win_nothing(self) -> None:
        found = figures(grade("rm-bench", [rm_item("1", "chat")], [said(9, 9, None, 1, 1, 1)]))
        assert found["average"] == 0


class TestJudgeBench:
    def test_rewards_of_single_responses_say_the_same_in_both_orders(self) -> None:
        items = [item("1"), item("2"), item("3"), item("4")]
        found = figures(grade("judgebench", items, [said(1, 0), said(0, 1), said(1, 1), said(None, 1)]))
        assert found == {"summed over both orders": 0.25, "position-consistent": 0.25}

    @pytest.mark.parametrize(
        ("first", "second", "summed", "consistent"),
        [(0, 0, 1, 1), (0, 1, 0, 0), (1, 1, 0, 0), (0, None, 1, 0), (1, None, 0, 0), (None, None, 0, 0)],
    )
    def test_two_orders(self, first: int | None, second: int | None, summed: float, consistent: float) -> None:
        judgements = [verdict((0, 1), first), verdict((1, 0), second)]
        found = figures(grade("judgebench", [item("1")], [said(None, None, judgements=judgements)]))
        assert found == {"summed over both orders": summed, "position-consistent": consistent}

    def test_a_judge_that_was_shown_one_order_has_neither_figure(self) -> None:
        once = said(1, 0, judgements=[verdict((1, 0), 0)])
        assert figures(grade("judgebench", [item("1")], [once])) == {}


class TestLLMBar:
    items = tuple(item(name, name) for name in ("natural", "neighbor", "gptinst", "gptout", "manual"))

    def test_the_adversarial_mean_is_of_its_four_subsets(self) -> None:
        right, wrong, tie = said(1, 0), said(0, 1), said(1, 1)
        graded = grade("llmbar", [*self.items, item("more", "neighbor")], [right, right, wrong, wrong, tie, wrong])
        assert figures(graded) == {
            "natural": 1,
            "adversarial mean": (0.5 + 0 + 0 + 0.5) / 4,
            "average": (1 + 0.5 + 0 + 0 + 0.5) / 5,
            "agreement between orders": 1,
        }
        assert "by itself" in figure(graded, "agreement between orders").note

    def test_a_verdict_that_follows_the_order_is_half_right_and_no_agreement(self) -> None:
        flipped = said(0.5, 0.5, judgements=[verdict((0, 1), 0), verdict((1, 0), 1)])
        steady = said(1, 0, judgements=[verdict((0, 1), 0), verdict((1, 0), 0)])
        broken = said(None, None, judgements=[verdict((0, 1), 0), verdict((1, 0), None)])
        items = [item(str(number), "natural") for number in range(4)]
        graded = grade("llmbar", items, [flipped, steady, steady, broken])
        assert figures(graded) == {
            "natural": (0.5 + 1 + 1 + 0.5) / 4,
            "agreement between orders": round(2 / 3, 9),
        }
        assert figure(graded, "agreement between orders").estimate.n == 3


def test_figures_have_intervals_that_hold_their_value() -> None:
    items = [
        item(f"{name}{n}", name) for name in ("natural", "neighbor", "gptinst", "gptout", "manual") for n in "abcd"
    ]
    graded = grade("llmbar", items, [said(n % 3 > 0, 0.5) for n in range(20)])
    for found in graded.protocol.figures(graded):
        assert found.estimate.low <= found.estimate.value <= found.estimate.high
        assert found.note
    wide = figure(graded, "average").estimate
    assert wide.low < wide.value < wide.high
