"""JudgeBench: its rows, and figures computed by hand."""

from pathlib import Path

import pytest

from flip_reward.evaluation.benchmarks.judgebench import SCORE
from flip_reward.evaluation.grading import ItemRewards
from tests.unit.evaluation.benchmarks.rows import Row, read, refuse
from tests.unit.evaluation.items import figures, grade, headline, item, said, verdict

JUDGE_BENCH: Row = {
    "pair_id": "81ec", "original_id": "1", "source": "mmlu-pro-law", "question": "Which?", "response_model": "m",
    "response_A": "It is (A).", "response_B": "It is (B).", "label": "B>A",
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "category"),
    [
        ("mmlu-pro-computer science", "knowledge"),
        ("livebench-reasoning", "reasoning"),
        ("livebench-math", "math"),
        ("livecodebench", "coding"),
        ("another", "another"),
    ],
)
def test_judgebench(tmp_path: Path, source: str, category: str) -> None:
    one, other = read(
        tmp_path,
        {**JUDGE_BENCH, "source": source},
        {**JUDGE_BENCH, "pair_id": "82", "question": "Who?", "label": "A>B"},
        name="judgebench",
    )
    assert (one.id, one.subset, one.group.responses) == ("81ec", category, ("It is (B).", "It is (A)."))
    assert other.group.responses == ("It is (A).", "It is (B).")


def test_judgebench_knows_two_labels(tmp_path: Path) -> None:
    assert "'label': Input should be 'A>B' or 'B>A'" in refuse(
        tmp_path, {**JUDGE_BENCH, "label": "A=B"}, name="judgebench"
    )


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
        wrong = said(0, 1, judgements=[verdict((0, 1), 1), verdict((1, 0), 1)])
        runs = [said(None, None, judgements=judgements), wrong]
        found = figures(grade("judgebench", [item("1"), item("2")], runs))
        assert found == {"summed over both orders": summed / 2, "position-consistent": consistent / 2}

    def test_a_judge_that_was_shown_one_order_has_neither_figure(self) -> None:
        once = said(1, 0, judgements=[verdict((1, 0), 0)])
        assert figures(grade("judgebench", [item("1")], [once])) == {}
        not_asked = ItemRewards((None, 1.0), compared=True)
        assert figures(grade("judgebench", [item("1"), item("2")], [once, not_asked])) == {}

    def test_the_score_needs_all_categories_or_is_of_one(self) -> None:
        categories = ("knowledge", "reasoning", "math", "coding")
        for present, name in ((categories, SCORE), (categories[:1], SCORE), (categories[:2], None)):
            graded = grade("judgebench", [item(one, one) for one in present], [said(1, 0)] * len(present))
            assert headline(graded) == name
            assert (SCORE in figures(graded)) is (name is not None)
