"""What a recipe's source may hold."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from flip_reward.errors import DataError
from flip_reward.training.grpo.data import prepare_rows
from flip_reward.training.grpo.recipe import GrpoData

CHAT = [{"role": "user", "content": "Name a tree."}]


def write(folder: Path, *rows: Mapping[str, object]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Name a tree.", "response": "An oak."}, ""),
        ({"Question": "Name a tree."}, "instruction = 'Question'"),
        ({"instruction": "Name a", "input": "tree.", "output": "An oak."}, "Alpaca"),
        (
            {"conversations": [{"from": "human", "value": "Name a tree."}, {"from": "gpt", "value": "An oak."}]},
            "conver",
        ),
        ({"messages": CHAT, "dataset": "some_set"}, ""),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_prompts_in_any_shape_get_the_reward_of_the_recipe(tmp_path: Path, row: dict[str, object], said: str) -> None:
    rows = prepare_rows(GrpoData(source=write(tmp_path, row)), "general-pointwise")
    [found] = rows.train
    assert found.instruction.split() == ["Name", "a", "tree."]
    assert found.datasets == ("general-pointwise",)
    assert said in "".join(rows.read_as)
    assert bool(said) == bool(rows.read_as)


def test_columns_are_named_as_for_score(tmp_path: Path) -> None:
    rows = prepare_rows(GrpoData(source=write(tmp_path, {"q": "Name a tree."}), columns={"prompt": "q"}))
    assert rows.train[0].datasets == ("general-flip",)


def test_rows_that_name_rewards_keep_them(tmp_path: Path) -> None:
    row = {"messages": CHAT, "ground_truth": "Name a tree.", "dataset": "general-quality"}
    assert prepare_rows(GrpoData(source=write(tmp_path, row))).train[0].datasets == ("general-quality",)
    with pytest.raises(DataError, match="ground_truth"):
        prepare_rows(GrpoData(source=write(tmp_path, {"messages": CHAT, "dataset": "general-quality"})))


def test_a_source_whose_prompts_are_all_held_out_is_told_so(tmp_path: Path) -> None:
    source = write(tmp_path, {"prompt": "Name a tree."})
    with pytest.raises(DataError) as caught:
        prepare_rows(GrpoData(source=source, held_out_source=source))
    assert "held_out_source" in str(caught.value.hint)
