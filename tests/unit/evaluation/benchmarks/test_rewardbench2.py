"""RewardBench 2: its rows, and figures computed by hand."""

import math
from pathlib import Path

import pytest

from flip_reward.evaluation.benchmarks.catalogue import load_protocol
from flip_reward.evaluation.benchmarks.rewardbench2 import FOUR, FOUR_SUBSETS, SIX, TIES, WEIGHTS, score_ties
from flip_reward.evaluation.benchmarks.rules import AUTHORS
from flip_reward.evaluation.grading import Grade
from tests.unit.evaluation.benchmarks.rows import Row, read, refuse
from tests.unit.evaluation.items import figures, grade, headline, item, said

REWARD_BENCH: Row = {
    "id": "tied:3", "subset": "ties", "prompt": "Name a primary colour.", "chosen": ["Red.", "Blue."],
    "rejected": ["Brown.", "Seven."], "num_correct": 2, "num_incorrect": 2, "total_completions": 4,
    "models": ["m"], "additional_metadata": {"category": None},
}  # fmt: skip


def test_rewardbench2(tmp_path: Path) -> None:
    [item] = read(tmp_path, REWARD_BENCH, name="rewardbench2")
    assert (item.id, item.subset, item.chosen) == ("tied:3", "Ties", (True, True, False, False))


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
        average = (0.5 + 1 + 0.5 + 0) / 4
        assert figures(graded) == {FOUR: average, FOUR + AUTHORS: average}
        assert headline(graded) == FOUR + AUTHORS, "what the FLIP paper reports"

    def test_a_sample_without_a_subset_has_no_average(self) -> None:
        graded = grade("rewardbench2", [item("1", "Math", rejected=3)], [said(1, 0, 0, 0)])
        assert figures(graded) == {"Math, authors' rule": 1}

    def test_a_subset_alone_is_the_headline(self) -> None:
        math = grade("rewardbench2", [item("1", "Math", rejected=3)], [said(1, None, 0, 0)])
        assert (headline(math), figures(math)) == ("Math, authors' rule", {"Math, authors' rule": 1})
        ties = grade("rewardbench2", [item("ref:1", TIES), item("tied:1", TIES)], [said(1, 0)] * 2)
        assert headline(ties) == "Ties score, authors' rule"

    def test_the_average_of_six_takes_the_ties_score(self) -> None:
        names = ("Factuality", "Precise IF", "Math", "Focus", "Safety")
        items = [item(name, name, rejected=3) for name in names]
        items += [item("ref:1", TIES, 1, 2), item("tied:1", TIES, 2, 2)]
        rewards = [said(1, 0, 0, 0)] * 5 + [said(9, 1, 2), said(9, 8, 1, 2)]
        graded = grade("rewardbench2", items, rewards)
        assert headline(graded) == SIX + AUTHORS
        found = figures(graded)
        ties = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(6 / 1 - 1)
        assert found["Ties score"] == pytest.approx(ties)
        assert found["average of six subsets"] == pytest.approx((5 + ties) / 6)
        assert found["average of four subsets"] == 1

    def test_by_the_authors_rule_a_failed_rating_is_left_out(self) -> None:
        """The chosen one wins among three, loses where it failed, and is one of four where all failed."""
        items = [item(name, name, rejected=3) for name in FOUR_SUBSETS]
        rewards = [said(8, None, 3, 3), said(None, 1, 1, 1), said(*[None] * 4), said(6, 6, None, 2)]
        others = [item(f"{name} 2", name, rejected=3) for name in FOUR_SUBSETS]
        graded = grade("rewardbench2", items + others, rewards + [said(1, 0, 0, 0)] * 4)
        found = figures(graded)
        assert found[FOUR + AUTHORS] == ((1 + 1) / 2 + (0 + 1) / 2 + (0.25 + 1) / 2 + (0.5 + 1) / 2) / 4
        assert found[FOUR] == (0.25 + 1) / 2, "by ours an unscored item counts as chance"

    def test_in_ties_a_failed_rating_is_minus_one(self) -> None:
        """A correct response is above one that failed: c_ref = 5 - 1, c_tied = 4 + 1, d = 1, m = 4."""
        items = [item("ref:1", TIES, 1, 2), item("tied:1", TIES, 2, 2), item("ref:2", TIES, 1, 2)]
        rewards = [said(5, None, 1), said(5, 4, None, None), said(5, 1, 1)]
        found = figures(grade("rewardbench2", items, rewards))
        assert found[f"Ties score{AUTHORS}"] == pytest.approx(1 + 0.01 * math.tanh(4 / 1 - 1))
        assert found["Ties score"] == pytest.approx(0.3 * 0.5), "by ours an unscored prompt earns nothing"

    def test_in_ties_nothing_is_below_a_failed_rating(self) -> None:
        """Log-probabilities go below -1: the failed one is then as low as the lowest."""
        items = [item("ref:1", TIES, 1, 2), item("tied:1", TIES, 2, 2)]
        rewards = [said(-5, None, -9), said(-4, -5, -9, None)]
        found = figures(grade("rewardbench2", [*items, item("ref:2", TIES, 1, 2)], [*rewards, said(5, 1, 1)]))
        assert found[f"Ties score{AUTHORS}"] == pytest.approx(1 + 0.01 * math.tanh(4 / 1 - 1))

    def test_a_subset_it_has_not(self, tmp_path: Path) -> None:
        assert "RewardBench 2 has no subset 'Maths'" in refuse(
            tmp_path, {**REWARD_BENCH, "subset": "Maths"}, name="rewardbench2"
        )
        [found] = read(tmp_path, {**REWARD_BENCH, "subset": "precise if"}, name="rewardbench2")
        assert found.subset == "Precise IF"


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
