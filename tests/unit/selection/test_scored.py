"""Scored rows are read from runs and from what `-o` writes, with the reward that belongs to each response."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from flip_reward import FlipReward, ScriptedEngine
from flip_reward.errors import DataError, OptionError
from flip_reward.rewards.config import RewardConfig
from flip_reward.scoring.files import score_file
from flip_reward.selection import LeftOut, Pair, select_above, select_best_of_groups, select_pairs
from flip_reward.selection.scored import ScoredRows, open_scored, read_rewards

LONGEST = RewardConfig(reward="longest").load()
OURS = (
    "outcome", "inferred_instruction", "precision", "recall", "reasoning", "detail", "cautions", "copied_share",
)  # fmt: skip


def write_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bare(rows: ScoredRows) -> list[dict[str, object]]:
    return [{name: value for name, value in rows.to_sft_row(one).items() if name not in OURS} for one in rows.read()]


@pytest.mark.parametrize(
    ("value", "count", "expected"),
    [
        (1, 1, [1.0]),
        (" 0.5", 1, [0.5]),
        ("", 2, [None, None]),
        (float("nan"), 1, [None]),
        ([0.5, None], 2, [0.5, None]),
        ([1, ""], 2, [1.0, None]),
    ],
)
def test_rewards_of_a_row(value: object, count: int, expected: list[float | None]) -> None:
    assert read_rewards(value, "reward", count) == expected


@pytest.mark.parametrize("value", ["much", True, [1, 2, 3], {"a": 1}, [[1], 2], '["x", 1]'])
def test_what_is_no_reward_is_said(value: object) -> None:
    with pytest.raises(DataError, match="reward"):
        read_rewards(value, "reward", 2)


def test_a_file_of_scored_rows(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"g": 1, "prompt": "p", "response": "x", "reward": "mine", "flip_reward": 0.5, "outcome": "scored"},
        {"g": 1, "prompt": "q", "response": "y", "reward": "mine", "flip_reward": None, "outcome": "refusal"},
        {"prompt": "q", "response": "y", "reward": "mine", "flip_reward": 0.1, "outcome": "scored"},
        {"prompt": "q", "response": "y", "reward": "mine", "flip_reward": 0.1, "outcome": "scored"},
    ]
    path = write_lines(tmp_path / "scored.jsonl", rows)
    path.write_text(path.read_text() + "broken\n")
    file = open_scored(str(path), group_by="g")
    found = list(file.read())
    assert [(one.reward, one.key, one.unscored) for one in found] == [
        (0.5, "1", "not scored: scored"),
        (None, "1", "not scored: refusal"),
        (0.1, 2, "not scored: scored"),  # without a value it is alone
        (0.1, 3, "not scored: scored"),
    ]
    assert [(row.line, row.source) for row in file.read_invalid()] == [(5, "scored.jsonl")]
    assert [file.to_sft_row(one) for one in found] == rows
    with pytest.raises(OptionError, match="'h'"):
        open_scored(str(path), group_by="h")
    for column in ("mine", None):
        path.write_text('{"prompt": "p", "response": "r", "score": 1}\n')
        with pytest.raises(DataError, match="'score'"):
            open_scored(str(path), reward=column)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"prompt": "p", "answer_a": "long", "answer_b": "no", "reward": 7},
            [
                {"prompt": "p", "reward": 7, "response": "long", "flip_reward": 4.0},
                {"prompt": "p", "reward": 7, "response": "no", "flip_reward": 2.0},
            ],
        ),
        (
            {"answer_b": "no", "prompt": "p", "answer_a": "long", "reward_answer_a": 7},
            [
                {"prompt": "p", "reward_answer_a": 7, "response": "no", "reward": 2.0},
                {"prompt": "p", "reward_answer_a": 7, "response": "long", "reward": 4.0},
            ],
        ),
        (
            {"prompt": "p", "tags": ["x", "y"], "responses": ["long", "no"]},
            [
                {"prompt": "p", "tags": ["x", "y"], "response": "long", "reward": 4.0},
                {"prompt": "p", "tags": ["x", "y"], "response": "no", "reward": 2.0},
            ],
        ),
        (
            {
                "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "long"}],
                "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "no"}],
            },
            [
                {
                    "messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": text}],
                    "reward": float(len(text)),
                }
                for text in ("long", "no")
            ],
        ),
        (
            {"flip_reward": 9, "prompt": "p", "response": "no"},
            [{"flip_reward": 9, "prompt": "p", "response": "no", "reward": 2.0}],
        ),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "xlsx", "run"])
def test_each_response_has_its_own_row_and_reward(
    tmp_path: Path, row: dict[str, object], expected: list[dict[str, object]], ending: str
) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [row])
    run, output = tmp_path / "run", None if ending == "run" else tmp_path / f"out.{ending}"
    score_file(LONGEST, source, output, run_folder=run)
    rows = bare(open_scored(str(output or run)))
    if ending in ("csv", "xlsx"):  # numbers of the user's are texts in CSV, lists texts in both
        assert [sorted(one) for one in rows] == [sorted(one) for one in expected]
        assert [float(str(one.get("flip_reward", one.get("reward")))) for one in rows] == [
            one.get("flip_reward", one.get("reward")) for one in expected
        ]
    else:
        assert rows == expected


def test_the_order_of_named_candidates_counts(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [{"prompt": "p", "a": "long", "b": "no"}])
    columns = {"responses": "b+a"}
    score_file(LONGEST, source, tmp_path / "out.jsonl", run_folder=tmp_path / "run", columns=columns)
    for rows in (open_scored(str(tmp_path / "out.jsonl"), columns=columns), open_scored(str(tmp_path / "run"))):
        assert [(one.text, one.reward) for one in rows.read()] == [("no", 2.0), ("long", 4.0)]


def test_a_run_scored_again_has_the_last_reward(tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", [{"prompt": "p", "response": "no"}])
    words = RewardConfig(reward="flip", model="scripted").load()
    score_file(words, tmp_path / "rows.jsonl", tmp_path / "once.jsonl", run_folder=tmp_path / "1")
    score_file(LONGEST, tmp_path / "once.jsonl", tmp_path / "twice.jsonl", run_folder=tmp_path / "2")
    score_file(words, tmp_path / "twice.jsonl", tmp_path / "thrice.jsonl", run_folder=tmp_path / "3")
    assert [one.reward for one in open_scored(str(tmp_path / "twice.jsonl")).read()] == [2.0]
    assert [one.reward for one in open_scored(str(tmp_path / "thrice.jsonl")).read()] == [0.0]
    named = open_scored(str(tmp_path / "thrice.jsonl"), reward="flip_reward")
    assert [one.reward for one in named.read()] == [2.0]


def test_texts_that_were_made_harmless_are_as_they_were(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [{"prompt": "p", "response": "- an item"}])
    score_file(LONGEST, source, tmp_path / "out.csv", run_folder=tmp_path / "run")
    [response] = open_scored(str(tmp_path / "out.csv")).read()
    assert response.text == response.values["response"] == "- an item"


def test_rejected_rows_of_a_run_say_why(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "rows.jsonl", [{"prompt": "p", "response": "no"}, {"prompt": "", "response": "x"}]
    )
    score_file(LONGEST, source, run_folder=tmp_path / "run")
    rows = open_scored(str(tmp_path / "run"))
    assert len(list(rows.read())) == 1
    [invalid] = rows.read_invalid()
    assert (invalid.line, invalid.source) == (2, "rows.jsonl")
    assert "empty" in invalid.reason
    with pytest.raises(OptionError, match="alone"):
        open_scored(str(tmp_path / "run"), str(source))


ROWS = {
    "prompt": ["Name a fruit."] * 3 + ["Say hi."],
    "response": ["Bread.", "A pear is a fruit.", "", "Hi!"],
}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_pairs_of_a_table_that_was_scored(make: Callable[[object], Any]) -> None:
    table = FlipReward(ScriptedEngine()).score_table(make(ROWS))
    found = list(select_pairs(open_scored(table).read))
    [pair] = [one for one in found if isinstance(one, Pair)]
    assert (pair.chosen.text, pair.rejected.text) == ("A pear is a fruit.", "Bread.")
    reasons = {one.response.text: one.reason for one in found if isinstance(one, LeftOut)}
    assert reasons == {"": "not scored: empty_response", "Hi!": "the only scored response of its group"}


def test_lists_of_responses_in_a_table() -> None:
    table = pd.DataFrame({"prompt": ["Name a fruit."], "responses": [["Bread.", "A pear is a fruit."]]})
    scored = open_scored(FlipReward(ScriptedEngine()).score_table(table))
    assert [one.text for one in select_best_of_groups(scored.read) if not isinstance(one, LeftOut)] == [
        "A pear is a fruit."
    ]


def test_a_file_gives_what_its_table_gives(tmp_path: Path) -> None:
    table = FlipReward(ScriptedEngine()).score_table(pd.DataFrame(ROWS))
    table.to_csv(tmp_path / "scored.csv", index=False)
    of_table, of_file = (list(select_pairs(open_scored(source).read)) for source in (table, tmp_path / "scored.csv"))
    pairs = [[one.to_row() for one in found if isinstance(one, Pair)] for found in (of_table, of_file)]
    assert pairs[0] == pairs[1] != []


def test_columns_can_be_named() -> None:
    table = pd.DataFrame({"q": ["Say hi."], "a": ["Hi!"], "points": [3.0], "topic": ["greetings"]})
    scored = open_scored(table, columns={"instruction": "q", "response": "a"}, reward="points", group_by="topic")
    [kept] = select_above(scored.read, 3.0)
    assert not isinstance(kept, LeftOut)
    assert (kept.text, kept.key) == ("Hi!", "greetings")


def test_a_table_that_was_not_scored_is_refused() -> None:
    with pytest.raises(DataError, match="'reward'"):
        list(select_above(open_scored(pd.DataFrame(ROWS)).read, 0.5))
