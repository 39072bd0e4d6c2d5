"""Labels meet the responses of a run by their texts or their ids, and are read as good or bad."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flip_reward.errors import DataError, OptionError, RunError
from flip_reward.rewards.config import RewardConfig
from flip_reward.scoring.files import score_file
from flip_reward.selection.labels import NO_LABEL, UNREADABLE, read_goodness, read_labelled_rewards

UP = "\N{THUMBS UP SIGN}"
Rows = Sequence[dict[str, object]]
LONGEST = RewardConfig(reward="longest").load()
ROWS: Rows = [{"id": f"q{n}", "prompt": f"Count to {n}.", "response": "x" * (n + 1)} for n in range(6)]


def write_lines(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def score(folder: Path, rows: Rows, **options: Any) -> Path:
    score_file(write_lines(folder / "rows.jsonl", rows), reward=LONGEST, run_folder=folder / "run", **options)
    return folder / "run"


def join(folder: Path, labels: Rows | str, rows: Rows = ROWS, **options: Any) -> dict[float, bool]:
    """Score rows by their length and return the label of each length."""
    run = score(folder, rows)
    name = labels if isinstance(labels, str) else write_lines(folder / "labels.jsonl", labels)
    found = read_labelled_rewards(run, name, **options)
    assert found.settings == {"reward": "longest"}
    assert len(found.rewards) == len(found.good) == len(found.prompts)
    return dict(zip(found.rewards, found.good, strict=True))


@pytest.mark.parametrize(
    "labels",
    [
        [{"prompt": "Count to 3.", "response": "xxxx", "label": "good"}, {**ROWS[0], "label": "bad"}],
        [{"prompt": " Count to\r\n3.", "response": "xxxx\n", "label": 1}, {**ROWS[0], "label": 0}],
        [
            {"messages": [{"role": "user", "content": "Count to 3."}], "response": "xxxx", "win": True},
            {"messages": [{"role": "user", "content": "Count to 0."}], "response": "x", "win": False},
        ],
        [{"id": "q3", "label": "win"}, {"id": "q0", "label": "lose"}],
        [{"id": "q3", "response_index": 0, "label": "yes"}, {"id": "q0", "response_index": 0, "label": "no"}],
        [
            {"prompt": "Count to 3.", "chosen": "xxxx", "rejected": "never seen"},
            {"prompt": "Count to 0.", "chosen": "never seen", "rejected": "x"},
        ],
    ],
)
def test_labels_meet_their_responses(labels: Rows, tmp_path: Path) -> None:
    assert join(tmp_path, labels) == {4.0: True, 1.0: False}


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("Question,Answer,Stars\nCount to 3.,xxxx,5\nCount to 0.,x,2\n", {"good": 4}),
        ("q,a,mine\nCount to 3.,xxxx,+1\nCount to 0.,x,-1\n", {"label": "mine", "columns": {"instruction": "q"}}),
        ("ticket,vote\nq3,\N{THUMBS UP SIGN}\nq0,\N{THUMBS DOWN SIGN}\n", {"columns": {"id": "ticket"}}),
    ],
)
def test_labels_of_a_spreadsheet(content: str, options: dict[str, Any], tmp_path: Path) -> None:
    if "columns" in options and "instruction" in options["columns"]:
        options = {**options, "columns": {**options["columns"], "response": "a"}}
    path = tmp_path / "labels.csv"
    path.write_text(content)
    assert join(tmp_path, str(path), **options) == {4.0: True, 1.0: False}


def test_labels_of_the_rows_themselves(tmp_path: Path) -> None:
    rows = [{**row, "label": place % 2, "notes": "..."} for place, row in enumerate(ROWS)]
    run = score(tmp_path, rows)
    found = read_labelled_rewards(run)
    assert (found.rewards, found.good) == ([1, 2, 3, 4, 5, 6], [False, True] * 3)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(RunError, match="gone"):
        read_labelled_rewards(run)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([{"id": "g", "label": [1, 0, 1]}], {1.0: True, 2.0: False, 3.0: True}),
        ([{"id": "g", "response_index": 1, "label": "bad"}], {2.0: False}),
        ([{"id": "g#2", "response_index": 2, "label": "good"}], {3.0: True}),
        ([{"prompt": "p", "responses": ["xx", "x", "xxx"], "labels": [5, 1, 3], "k": 0}], {2.0: True, 1.0: False}),
        ([{"prompt": "p", "response": "xx", "label": "good"}], {2.0: True}),
        (
            [
                {"prompt": "p", "responses": ["xxx", "xx"], "winner": 0},
                {"prompt": "p", "responses": ["a", "b"], "winner": 1},
            ],
            {3.0: True, 2.0: False},
        ),
    ],
)
def test_labels_of_several_responses(labels: Rows, expected: dict[float, bool], tmp_path: Path) -> None:
    options = {"good": 3} if "k" in labels[0] else {}
    rows: Rows = [{"id": "g", "prompt": "p", "responses": ["x", "xx", "xxx"]}, *ROWS[3:]]
    found = join(tmp_path, labels, rows, **options)
    assert {reward: good for reward, good in found.items() if reward in expected} == expected


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    rows: Rows = [*ROWS[:5], {"prompt": "Say nothing.", "response": ""}]
    labels: list[dict[str, object]] = [
        {**row, "label": label} for row, label in zip(rows, ["good", "", "tie", None, "bad", "bad"], strict=True)
    ]
    labels += [{"prompt": "Unknown.", "response": "?", "label": "good"}, {"prompt": 7, "label": "good"}]
    found = read_labelled_rewards(score(tmp_path, rows), write_lines(tmp_path / "labels.jsonl", labels))
    assert (found.rewards, found.good) == ([1.0, 5.0], [True, False])
    assert found.left_out[NO_LABEL] == 3
    assert found.left_out[UNREADABLE] == 1
    assert found.left_out["a response that was not scored"] == 1
    assert found.left_out["a response that is not in the run"] == 1


def test_all_labels_of_a_response_count(tmp_path: Path) -> None:
    same: Rows = [{"prompt": "p", "response": "x", "label": label} for label in ("good", "bad", "good")]
    rows: Rows = [same[0], {"prompt": "q", "response": "xx", "label": "bad"}, *same[1:]]
    found = read_labelled_rewards(score(tmp_path, rows))
    assert sorted(zip(found.rewards, found.good, strict=True)) == [(1, False), (1, True), (1, True), (2, False)]


@pytest.mark.parametrize("of", [{"prompt": "Count to 3.", "response": "xxxx"}, {"id": "q3"}])
def test_people_may_disagree_about_a_response(of: dict[str, object], tmp_path: Path) -> None:
    labels: Rows = [{**of, "label": label} for label in ("good", "bad", "good")]
    found = read_labelled_rewards(score(tmp_path, ROWS), write_lines(tmp_path / "labels.jsonl", labels))
    assert found.rewards == [4, 4, 4]
    assert sorted(found.good) == [False, True, True]
    assert not found.left_out.total()
    assert "several" in found.source


@pytest.mark.parametrize(
    ("cells", "threshold", "expected"),
    [
        (["Good", "BAD ", "win", "lost", True, False], None, [True, False, True, False, True, False]),
        (["thumbs up", "Thumbs-Down", f"{UP}\N{EMOJI MODIFIER FITZPATRICK TYPE-5}"], None, [True, False, True]),
        ([1, 0, "1", "0.0", 1.0], None, [True, False, True, False, True]),
        ([-1, 1, "-1"], None, [False, True, False]),
        ([1, 2, 3, 4, 5.0, "4"], 4, [False, False, False, True, True, True]),
        ([0, 1, 1], 0.5, [False, True, True]),
    ],
)
def test_goodness(cells: list[object], threshold: float | None, expected: list[bool]) -> None:
    assert read_goodness(cells, threshold, "label") == expected


@pytest.mark.parametrize(
    ("cells", "threshold", "named"),
    [
        (["good", "maybe", "hm"], None, "'maybe', 'hm'"),
        ([1, 5, 3], None, "grades from 1 to 5"),
        ([-1, 0, 1], None, "grades from -1 to 1"),
        ([3, 3.0, "3"], None, "every label in 'label' is 3"),
        ([4, "good"], 4, "'good'"),
        ([[1, 0]], None, r"\[1, 0\]"),
        ([float("inf")], None, "inf"),
        (["9" * 5000], None, "'999"),
    ],
)
def test_what_is_no_label_is_shown(cells: list[object], threshold: float | None, named: str) -> None:
    with pytest.raises(DataError, match=named) as refused:
        read_goodness(cells, threshold, "label")
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("labels", "options", "named"),
    [
        ([{"id": "z", "label": 1}], {}, "none of the 1 labels"),
        ([{"prompt": "Other.", "response": "?", "label": 1}], {}, "none of the 1 labels"),
        ([{"id": "q1", "remark": 1}], {}, "no column of labels"),
        ([{"id": "q1", "label": 1, "good": 1}], {}, "'label' or 'good'"),
        ([{"response": "x", "label": 1}], {}, "neither prompts and responses nor ids"),
        ([{"id": "q1", "label": 3}, {"id": "q2", "label": 2}], {}, "grades from 2 to 3"),
        ([{"id": "q1", "label": 1}], {"columns": {"response": "reply"}}, "'reply'"),
        ([], {}, "no rows"),
    ],
)
def test_labels_that_are_of_no_use(labels: Rows, options: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=named):
        join(tmp_path, labels, **options)


def test_which_of_several_responses_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not say of which") as refused:
        join(tmp_path, [{"id": "g", "label": 1}], [{"id": "g", "prompt": "p", "responses": ["x", "xx"]}])
    assert "response_index" in str(refused.value.hint)


def test_mistakes_about_columns_and_runs(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'lable'.*did you mean 'label'"):
        join(tmp_path, [{**ROWS[0], "label": 1}], label="lable")
    with pytest.raises(RunError, match="not a run"):
        read_labelled_rewards(tmp_path, "labels.jsonl")
