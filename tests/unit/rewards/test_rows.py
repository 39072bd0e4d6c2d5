"""Rows and tables in memory are scored as files are, and come back as what they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value

from flip_reward.core.conversation import Group, Message
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import ConversationError, DataError, OptionError
from flip_reward.rewards.flip import FlipReward
from flip_reward.rewards.judges.pairwise import PairwiseJudge
from flip_reward.scoring.files import score_file
from tests.unit.rewards.scripted_judges import ScriptedJudge

ROWS: list[dict[str, object]] = [
    {"prompt": "Name a fruit.", "response": "A pear is a fruit.", "source": "a"},
    {"prompt": "Say hi in Greek.", "response": "", "source": "b"},
    {"prompt": "Count to three.", "response": "One, two, three.", "source": None},
]
ADDED = [
    "reward",
    "outcome",
    "inferred_instruction",
    "precision",
    "recall",
    "reasoning",
    "detail",
    "cautions",
    "copied_share",
]
TABLES: dict[str, Callable[[Sequence[Mapping[str, object]]], Any]] = {
    "pandas": lambda rows: pd.DataFrame(list(rows)),
    "polars": lambda rows: pl.DataFrame(list(rows)),
    "datasets": lambda rows: Dataset.from_list(list(rows)),
}


@pytest.fixture
def reward() -> FlipReward:
    return FlipReward(ScriptedEngine())


def read_table(table: Any) -> list[dict[str, object]]:
    if isinstance(table, pd.DataFrame):
        rows = table.to_dict("records")
        return [{name: None if cell != cell else cell for name, cell in row.items()} for row in rows]
    return [*(table.iter_rows(named=True) if isinstance(table, pl.DataFrame) else table)]


def test_a_group_gives_the_scores_of_its_responses(reward: FlipReward) -> None:
    group = Group.of("Name a fruit.", ["A pear is a fruit.", ""])
    first, second = reward.score_sync(group)
    assert (first.value, second.value) == (0.25, None)
    assert [[score.value for score in scores] for scores in reward.score_sync(iter([group]))] == [[0.25, None]]


async def test_rows_are_given_back_with_columns_added(reward: FlipReward) -> None:
    rows = [dict(row) for row in ROWS]
    scored = await reward.score(rows)
    assert rows == ROWS, "what is given stays as it is"
    assert [list(row) for row in scored] == [["prompt", "response", "source", *ADDED]] * 3
    assert [row["outcome"] for row in scored] == ["scored", "empty_response", "scored"]
    assert await reward.score(rows[0]) == scored[0]
    nothing: list[dict[str, object]] = []
    assert await reward.score(nothing) == []


def _turns(text: str, response: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": response}]


SHAPES: dict[str, list[dict[str, object]]] = {
    "plain": ROWS,
    "several rows a group": [
        {"qid": "b", "question": "Name a fruit.", "answer": "A pear is a fruit."},
        {"qid": "a", "question": "Count to three.", "answer": "One, two, three."},
        {"qid": "a", "question": "Count to three.", "answer": "Four."},
        {"qid": "b", "question": "Name a fruit.", "answer": None},
        {"qid": "b", "question": "Name a fruit.", "answer": "Rye."},
    ],
    "a column each": [
        {"prompt": "Name a fruit.", "response_a": "A pear is a fruit.", "response_b": "Rye."},
        {"prompt": "Count to three.", "response_a": "One, two, three.", "response_b": ""},
    ],
    "chosen and rejected": [
        {"prompt": "Name a fruit.", "chosen": "A pear is a fruit.", "rejected": "Rye."},
        {"prompt": None, "chosen": "One, two, three.", "rejected": "Four."},
    ],
    "conversations chosen and rejected": [
        {"chosen": _turns("Name a fruit.", "A pear is a fruit."), "rejected": _turns("Name a fruit.", "Rye.")}
    ],
    "lists": [
        {"prompt": "Name a fruit.", "responses": ["A pear is a fruit.", "Rye.", ""]},
        {"prompt": "Count to three.", "responses": ["One, two, three.", "Four."]},
        {"prompt": "Say nothing.", "responses": []},
    ],
    "messages": [{"messages": _turns("Name a fruit.", "A pear is a fruit.")}, {"messages": _turns("Say hi.", "Hi!")}],
}


@pytest.mark.parametrize("model", ["flip", "pairwise"])
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_the_same_from_a_file_from_rows_and_from_tables(shape: str, model: str, tmp_path: Path) -> None:
    """A judge that compares gives other rewards where rows form other groups."""
    rows, column = SHAPES[shape], "qid" if shape.startswith("several") else None
    judge = PairwiseJudge(ScriptedEngine(ScriptedJudge(lambda shown: shown.index(max(shown)))))
    reward = judge if model == "pairwise" else FlipReward(ScriptedEngine())
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    output = tmp_path / "scored.jsonl"
    score_file(reward, tmp_path / "rows.jsonl", output, run_folder=tmp_path / "run", group_by=column)
    expected = [json.loads(line) for line in output.read_text().splitlines()]
    for make in TABLES.values():
        assert read_table(reward.score_table(make(rows), group_by=column)) == expected
    if any(name.startswith("outcome") and "rejected" in cell for row in expected for name, cell in row.items()):
        with pytest.raises(DataError, match="row "):
            reward.score_sync(rows, group_by=column)
    else:
        assert reward.score_sync(rows, group_by=column) == expected
    if model == "pairwise" and column:
        assert [row["reward"] for row in expected] == [0.0, 1.0, 0.0, None, 1.0]


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_a_bad_row_of_a_table_is_rejected_and_spoils_no_other(reward: FlipReward, kind: str) -> None:
    rows: list[dict[str, object]] = [*ROWS, {"prompt": None, "response": "Hi", "source": "c"}]
    table = TABLES[kind](rows)
    scored = read_table(reward.score_table(table))
    assert [row["outcome"] for row in scored] == ["scored", "empty_response", "scored", "rejected"]
    assert "prompt" in str(scored[3]["detail"])
    assert scored[3]["reward"] is None
    assert "reward" not in read_table(table)[0], "the table that was given stays as it is"


def test_a_bad_row_in_a_list_is_named_before_anything_is_asked() -> None:
    engine = ScriptedEngine()
    reward = FlipReward(engine)
    with pytest.raises(DataError, match="row 1"):
        reward.score_sync([ROWS[0], {"prompt": None, "response": "Hi"}])
    with pytest.raises(DataError, match="row 1"):
        reward.score_sync([ROWS[0], {"prompt": [{"role": "system", "content": "Be brief."}], "response": "Hi"}])
    with pytest.raises(ConversationError, match="group 1"):
        reward.score_sync([Group.of("a", "b"), Group.of([Message("system", "Be brief.")], "b")])
    assert engine.requests == 0


def test_a_conversation_without_an_instruction_is_rejected_in_a_table(reward: FlipReward) -> None:
    rows = [{"prompt": [{"role": "system", "content": "Be brief."}], "response": "Hi"}]
    scored = reward.score_table(pl.DataFrame(rows))
    assert scored["outcome"].to_list() == ["rejected"]


UNREADABLE: dict[str, object] = {
    "a number": 3,
    "a text": "Name a fruit.",
    "groups among rows": [ROWS[0], Group.of("a", "b")],
    "lists": [["a", "b"]],
    "parts of a data set": DatasetDict({"train": Dataset.from_list(ROWS)}),
    "a stream": Dataset.from_list(ROWS).to_iterable_dataset(),
    "a lazy frame": pl.DataFrame(ROWS).lazy(),
    "a column": pd.Series(["a"]),
    "two columns of one name": pd.DataFrame([["a", "b"]], columns=["prompt", "prompt"]),
}


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_what_cannot_be_scored_is_said_in_one_line(reward: FlipReward, name: str) -> None:
    data: Any = UNREADABLE[name]
    with pytest.raises(DataError) as caught:
        reward.score_sync(data)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": "instruction=prompt"}, "'instruction=prompt' is no mapping"),
        ({"columns": ["prompt"]}, "is no mapping"),
        ({"columns": {"instruction": 0}}, "the name 0 is no text"),
        ({"columns": {"responses": ["a", "b"]}}, "is no text"),
        ({"columns": {0: "prompt"}}, "the name 0 is no text"),
        ({"group_by": 0}, "is a text, and not 0"),
        ({"group_by": ["source"]}, "is a text, and not"),
    ],
)
def test_columns_are_a_mapping_of_texts(reward: FlipReward, options: Any, said: str) -> None:
    for data in (ROWS, pd.DataFrame(ROWS)):
        with pytest.raises(OptionError, match=said):
            reward.score_sync(data, **options)


def test_columns_in_a_mapping_are_no_table(reward: FlipReward) -> None:
    columns: Any = {"prompt": ["Name a fruit.", "Say hi."], "response": ["A pear.", "Hi!"]}
    with pytest.raises(DataError, match="a table is wanted, and not dict"):
        reward.score_table(columns)
    with pytest.raises(DataError) as caught:
        reward.score_sync(columns)
    assert "DataFrame" in str(caught.value.hint)


def test_pandas_keeps_index_types_and_order(reward: FlipReward) -> None:
    table = pd.DataFrame(ROWS, index=pd.Index([7, 7, 3], name="key"))
    table["when"] = pd.to_datetime(["2026-01-01", None, "2026-01-03"])
    table["count"] = pd.array([1, None, 3], dtype="Int64")
    scored = reward.score_table(table)
    assert scored.index.equals(table.index)
    assert scored.index.name == "key"
    assert list(scored.columns) == [*table.columns, *ADDED]
    pd.testing.assert_frame_equal(scored[list(table.columns)], table)
    assert scored["reward"].dtype == "float64"
    assert math.isnan(scored["reward"].iloc[1])
    assert list(reward.score_table(table[:0]).columns) == [*table.columns, *ADDED]


def test_pandas_cells_may_hold_arrays_as_parquet_has_them(reward: FlipReward) -> None:
    turns = np.array([{"role": "user", "content": "Name a fruit."}], dtype=object)
    table = pd.DataFrame({"prompt": [turns], "response": ["A pear is a fruit."]})
    assert reward.score_table(table)["reward"].to_list() == [0.25]


def test_polars_keeps_types(reward: FlipReward) -> None:
    table = pl.DataFrame(ROWS).with_columns(pl.lit(1, pl.Int8).alias("small"))
    scored = reward.score_table(table)
    assert scored.drop(ADDED).equals(table)
    assert scored.schema["small"] == pl.Int8
    assert (scored.schema["reward"], scored.schema["detail"]) == (pl.Float64, pl.String)
    assert reward.score_table(table[:0]).schema == scored.schema


def test_a_data_set_keeps_features_selection_and_format(reward: FlipReward) -> None:
    features = Features({"prompt": Value("string"), "response": Value("large_string"), "tags": List(Value("string"))})
    rows = [{"prompt": str(row["prompt"]), "response": str(row["response"]), "tags": ["x"]} for row in ROWS]
    table = Dataset.from_list(rows, features=features).select([2, 0]).with_format("numpy", columns=["prompt"])
    scored = reward.score_table(table)
    assert {name: scored.features[name] for name in features} == features
    assert scored.format["type"] == "numpy"
    assert scored.with_format(None)["prompt"][:] == ["Count to three.", "Name a fruit."]
    assert scored.with_format(None)["reward"][1] == 0.25
    assert scored.features["reward"] == Value("float64")


def test_columns_can_be_named(reward: FlipReward) -> None:
    table = pl.DataFrame({"q": ["Name a fruit."], "a": ["A pear is a fruit."]})
    names = {"instruction": "q", "response": "a"}
    assert reward.score_table(table, columns=names)["reward"].to_list() == [0.25]
    assert reward.score_sync({"q": "Name a fruit.", "a": "A pear is a fruit."}, columns=names)["reward"] == 0.25


def test_a_column_of_the_users_is_never_replaced(reward: FlipReward) -> None:
    once = reward.score_table(pl.DataFrame(ROWS))
    twice = reward.score_table(once)
    assert twice.columns == [*once.columns, *(f"flip_{name}" for name in ADDED)]
    assert reward.score_table(twice).columns[-1] == "flip_2_copied_share"


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_rows_with_several_responses(reward: FlipReward, kind: str) -> None:
    texts = ["A pear is a fruit.", "Rye."]
    lists = TABLES[kind]([{"prompt": "Name a fruit.", "responses": texts}, {"prompt": None, "responses": texts}])
    first, second = read_table(reward.score_table(lists))
    assert [*_as_list(first["reward"])] == [0.25, 0.0]
    assert [*_as_list(second["outcome"])] == ["rejected"]
    pair = TABLES[kind]([{"prompt": "Name a fruit.", "chosen": texts[0], "rejected": texts[1], "reward_chosen": 1}])
    [row] = read_table(reward.score_table(pair))
    assert (row["flip_reward_chosen"], row["reward_rejected"], row["reward_chosen"]) == (0.25, 0.0, 1)


def _as_list(cell: Any) -> list[object]:
    assert isinstance(cell, list)
    return cell


def test_columns_that_leave_something_open_are_asked_for_by_name(reward: FlipReward) -> None:
    table = pl.DataFrame({"prompt": ["Name a fruit."], "left": ["A pear is a fruit."], "right": ["Rye."]})
    with pytest.raises(DataError, match="'left', 'right'"):
        reward.score_table(table)
    scored = reward.score_table(table, columns={"responses": "left+right"})
    assert [scored[f"reward_{side}"].to_list() for side in ("left", "right")] == [[0.25], [0.0]]
