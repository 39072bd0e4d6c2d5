from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flip_reward.errors import DataError
from flip_reward.integrations.verl import compute_score_sync
from flip_reward.integrations.verl.data import VerlColumns, write_verl_parquet
from tests.e2e.command import run
from tests.unit.integrations.conftest import SetEnvironment

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name a fruit."},
]
ROWS: list[dict[str, object]] = [
    {"id": "one", "prompt": "Name a bird."},
    {"instruction": "Name a fish.", "responses": ["Trout.", "Cod."]},
    {"messages": CHAT},
    {"messages": [*CHAT, {"role": "assistant", "content": "Apple."}], "dataset": "general-flip"},
]


def write(path: Path, rows: Sequence[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_prompts_of_every_shape_become_rows_without_responses(tmp_path: Path) -> None:
    output = tmp_path / "train.parquet"
    assert write_verl_parquet([write(tmp_path / "prompts.jsonl", ROWS)], output) == 4
    first, fish, chat, answered = read(output)
    bird = [{"role": "user", "content": "Name a bird."}]
    assert first == {
        "data_source": "prompts.jsonl",
        "prompt": bird,
        "ability": "chat",
        "reward_model": {"style": "model", "ground_truth": "Name a bird."},
        "extra_info": {"split": "train", "index": 0, "id": "one", "prompt": bird},
    }
    assert fish["prompt"] == [{"role": "user", "content": "Name a fish."}]
    assert chat["prompt"] == answered["prompt"] == CHAT
    assert [row["extra_info"]["index"] for row in (first, fish, chat, answered)] == [0, 1, 2, 3]


def test_what_is_written_is_what_the_reward_function_reads(tmp_path: Path, set_environment: SetEnvironment) -> None:
    set_environment()
    write_verl_parquet([write(tmp_path / "prompts.jsonl", ROWS)], tmp_path / "train.parquet")
    for row in read(tmp_path / "train.parquet"):
        ground_truth = row["reward_model"]["ground_truth"]
        result = compute_score_sync(row["data_source"], "An apple a day.", ground_truth, row["extra_info"])
        assert result["flip_outcome"] == "scored"


def test_constants_columns_and_the_number_of_rows_can_be_chosen(tmp_path: Path) -> None:
    inputs = [write(tmp_path / "a.jsonl", [{"question": "One?"}, {"question": "Two?"}, {"question": "Three?"}])]
    constant = VerlColumns("mine", "talk", "test", {"prompt": "question"}, 2)
    assert write_verl_parquet(inputs, tmp_path / "test.parquet", constant) == 2
    rows = read(tmp_path / "test.parquet")
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["One?", "Two?"]
    assert {(row["data_source"], row["ability"], row["extra_info"]["split"]) for row in rows} == {
        ("mine", "talk", "test")
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "?"}, "line 2: no column 'instruction' or 'prompt' or 'messages'"),
        ({"prompt": " "}, "line 2: 'prompt' is empty"),
        ({"messages": CHAT[:1]}, "line 2: the conversation has no user message"),
    ],
)
def test_a_row_without_an_instruction_is_named_and_nothing_is_written(
    row: dict[str, object], message: str, tmp_path: Path
) -> None:
    inputs = [write(tmp_path / "prompts.jsonl", [ROWS[0], row])]
    with pytest.raises(DataError, match=message):
        write_verl_parquet(inputs, tmp_path / "train.parquet")
    assert not list(tmp_path.glob("*.parquet*"))


def test_from_the_command_line(tmp_path: Path) -> None:
    inputs, output = write(tmp_path / "prompts.jsonl", ROWS), tmp_path / "train.parquet"
    options = ["--ability", "talk", "--columns", "id=id", "--limit", "1"]
    finished = run(tmp_path, "data", "verl", inputs, "-o", str(output), *options)
    assert (finished.returncode, finished.stdout) == (0, f"{output}: 1 row\n")
    [row] = read(output)
    assert row["ability"] == "talk"
    finished = run(tmp_path, "data", "verl", "nowhere.jsonl", "-o", str(output))
    assert finished.returncode
    assert "nowhere.jsonl" in finished.stderr
