"""PPE: rows of both benchmarks, and figures computed by hand."""

from pathlib import Path

import pytest

from flip_reward.core.conversation import Group
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_benchmark
from flip_reward.evaluation.benchmarks.ppe import ACCURACY, BEST, SETS
from tests.unit.evaluation.benchmarks.rows import Row, read, refuse, write
from tests.unit.evaluation.items import figures, grade, headline, item, said

VOTE: Row = {
    "question_id": "3f", "model_a": "m", "model_b": "n", "winner": "model_b", "prompt": "Name a fruit.",
    "response_1": "Bread.", "response_2": "Pear.", "language": "English",
}  # fmt: skip
SUM: Row = {
    "question_id": "12", "model_name": "m", "subset": "MATH", "prompt": "2 + 2?",
    "scores": [False, True, False, True],
    "response_1": "5", "response_2": "4", "response_3": "3", "response_4": "Four.",
    "sampled_conflict_pairs": [[0, 1], [1, 2], [3, 0]],
}  # fmt: skip


def test_ties_of_people_are_no_items(tmp_path: Path) -> None:
    rows = [
        VOTE,
        {**VOTE, "question_id": "4", "winner": "tie"},
        {**VOTE, "question_id": "5", "winner": "tie (bothbad)"},
    ]
    [found] = read(tmp_path, *rows, name="ppe-preference")
    assert (found.id, found.group.responses) == ("3f", ("Pear.", "Bread."))
    assert "'winner'" in refuse(tmp_path, {**VOTE, "winner": "both"}, name="ppe-preference")
    with pytest.raises(DataError, match="there are no rows but ties"):
        read(tmp_path, {**VOTE, "winner": "tie"}, name="ppe-preference")


def test_a_vote_is_met_by_the_strictly_higher_reward() -> None:
    items = [item(str(number)) for number in range(4)]
    graded = grade("ppe-preference", items, [said(1, 0), said(1, 1), said(1, None), said(None, 1)])
    assert figures(graded) == {ACCURACY: 0.5}
    assert headline(graded) == ACCURACY


def test_correctness(tmp_path: Path) -> None:
    [found] = read(tmp_path, SUM, name="ppe-correctness")
    assert (found.id, found.subset) == ("math/12/m", "math")
    assert found.group.responses == ("5", "4", "3", "Four.")
    assert found.chosen == (False, True, False, True)
    assert found.tags == ("", "0 2", "", "0")


@pytest.mark.parametrize(
    "path", ["PPE-MATH-Best-of-K/data/train.jsonl", "math_best_of_k.jsonl", "ppe/Math/rows.jsonl"]
)
def test_a_path_names_the_set(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "README.md").write_text("# PPE", encoding="utf-8")
    write(tmp_path / path, [{key: value for key, value in SUM.items() if key != "subset"}])
    [found] = load_benchmark(f"ppe-correctness={tmp_path}").items
    assert found.subset == "math"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sampled_conflict_pairs": [[0, 4]]}, "a response that is not there: 0, 4"),
        ({"sampled_conflict_pairs": [[1, 3]]}, "the same score: 1, 3"),
        ({"response_4": None}, "no text in 'response_4', though there are 4 scores"),
        ({"scores": [True] * 4, "sampled_conflict_pairs": []}, "there are no rejected responses"),
        ({"subset": "chess"}, "PPE Correctness has no subset 'chess'"),
    ],
)
def test_rows_of_correctness_that_cannot_be_used(tmp_path: Path, change: Row, reason: str) -> None:
    assert reason in refuse(tmp_path, {**SUM, **change}, name="ppe-correctness")


def sampled(name: str) -> BenchmarkItem:
    """Two wrong and two correct responses, compared in the pairs 1 > 0, 1 > 2 and 3 > 0."""
    group = Group.of(f"Do {name}.", ["a", "b", "c", "d"], id=name)
    return BenchmarkItem(name, name, group, (False, True, False, True), ("", "0 2", "", "0"))


def test_correctness_by_hand() -> None:
    """Rewards 1, 2, 3, None: 2 > 1, not 2 > 3, and none at all is below 1; the best is wrong."""
    items = [sampled(name) for name in SETS]
    rewards = [said(1, 2, 3, None), said(1, 2, 2, 2), said(0, 1, 0, 0), said(0, 1, 0, 0), said(0, 1, 0, 0)]
    found = figures(grade("ppe-correctness", items, rewards))
    assert found[f"mmlu-pro, {ACCURACY}"] == pytest.approx(1 / 3), "one response without a reward is below the others"
    assert {ACCURACY, BEST}.isdisjoint(figures(grade("ppe-correctness", items, [said(*[None] * 4), *rewards[1:]])))
    more = BenchmarkItem("again", "mmlu-pro", items[0].group, items[0].chosen, items[0].tags)
    graded = grade("ppe-correctness", [*items, more], [*rewards, said(0, 1, 0, 1)])
    found = figures(graded)
    pairs = [(1 / 3 + 1) / 2, 2 / 3, 2 / 3, 2 / 3, 2 / 3]
    best = [(0 + 1) / 2, 2 / 3, 1, 1, 1]
    assert [found[f"{name}, {ACCURACY}"] for name in SETS] == pytest.approx(pairs)
    assert [found[f"{name}, {BEST}"] for name in SETS] == pytest.approx(best)
    assert found[ACCURACY] == pytest.approx(sum(pairs) / 5)
    assert found[BEST] == pytest.approx(sum(best) / 5)
    assert headline(graded) == ACCURACY


def test_without_a_set_there_is_no_mean() -> None:
    for names, expected in ((("math",), f"math, {ACCURACY}"), (("math", "gpqa"), None)):
        graded = grade("ppe-correctness", [sampled(name) for name in names], [said(0, 1, 0, 1)] * len(names))
        assert (headline(graded), ACCURACY in figures(graded)) == (expected, False)
