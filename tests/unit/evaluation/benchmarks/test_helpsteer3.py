"""HelpSteer3: its rows, and its figure computed by hand."""

from pathlib import Path

import pytest

from flip_reward.evaluation.benchmarks.helpsteer3 import ACCURACY, DOMAINS
from tests.unit.evaluation.benchmarks.rows import Row, read, refuse
from tests.unit.evaluation.items import figures, grade, headline, item, said

PAIR: Row = {
    "domain": "code", "language": "python", "overall_preference": -2, "response1": "a + b", "response2": "a - b",
    "context": [
        {"role": "user", "content": "Help me."}, {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Add two numbers."},
    ],
    "individual_preference": [{"score": -2, "reasoning": "It adds."}],
}  # fmt: skip


@pytest.mark.parametrize(("preference", "better"), [(-3, "a + b"), (-1, "a + b"), (1, "a - b"), (3, "a - b")])
def test_the_sign_says_which_response_is_better(tmp_path: Path, preference: int, better: str) -> None:
    [found] = read(tmp_path, {**PAIR, "overall_preference": preference}, name="helpsteer3")
    assert (found.id, found.subset, found.group.responses[0]) == ("row-0", "code", better)
    assert [message.role for message in found.group.messages] == ["user", "assistant", "user"]


def test_ties_are_no_items_and_others_keep_their_names(tmp_path: Path) -> None:
    [found] = read(tmp_path, {**PAIR, "overall_preference": 0}, PAIR, name="helpsteer3")
    assert found.id == "row-1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"overall_preference": 4}, "'overall_preference'"), ({"domain": "sport"}, "HelpSteer3 has no subset 'sport'")],
)
def test_rows_that_cannot_be_used(tmp_path: Path, change: Row, reason: str) -> None:
    assert reason in refuse(tmp_path, {**PAIR, **change}, name="helpsteer3")


def test_accuracy_is_of_all_pairs_and_a_tie_is_wrong() -> None:
    items = [item(name, name) for name in (*DOMAINS, "code", "stem")]
    items = [item(f"{number}", one.subset) for number, one in enumerate(items)]
    rewards = [said(1, 0), said(1, 1), said(1, None), said(0, 1), said(1, 0), said(1, 0)]
    graded = grade("helpsteer3", items, rewards)
    assert figures(graded) == {ACCURACY: round(4 / 6, 9)}
    assert headline(graded) == ACCURACY


def test_two_of_four_domains_have_no_figure() -> None:
    assert figures(grade("helpsteer3", [item("1", "code"), item("2", "stem")], [said(1, 0)] * 2)) == {}
    assert figures(grade("helpsteer3", [item("1", "code")], [said(1, 0)])) == {ACCURACY: 1}
