from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from flip_reward.data.readers import open_input
from flip_reward.errors import DataError
from flip_reward.training.inferrer.pairs import Removal, read_evaluation_prompts, read_pairs


def write(path: Path, *rows: object) -> str:
    lines = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines, encoding="utf-8")
    return str(path)


def test_rows_of_every_shape(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    name = write(
        tmp_path / "rows.jsonl.gz",
        {"prompt": " Name a fruit. ", "response": "Pear."},
        {"instruction": "Name two.", "responses": ["Pear, plum.", "Apple, pear."]},
        {"messages": [*chat, {"role": "user", "content": "Name three."}], "response": "Apple, pear, plum."},
        {"messages": chat},
    )
    read = read_pairs(open_input(name), weight=2)
    assert [one.instruction for one in read.pairs] == ["Name a fruit.", "Name two.", "Name two.", "Name three.", "Hi"]
    assert (read.name, read.weight, read.rows, read.removed) == ("rows.jsonl.gz", 2, 4, {})


def test_empty_sides_and_bad_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    name = write(
        tmp_path / "rows.jsonl",
        {"prompt": "", "response": "Pear."},
        {"prompt": "Name a fruit.", "response": " "},
        {"prompt": "Name a fruit.", "response": "<think>Hm"},
        {"prompt": "Name a fruit."},
        [{"role": "user"}],
        "not json",
        {"prompt": "Name a fruit.", "response": "<think>Hm</think>Pear."},
    )
    read = read_pairs(open_input(name))
    assert read.removed == {Removal.BAD_ROW: 4, Removal.NO_ANSWER: 2}
    assert len(read.pairs) == 1
    assert len(read.complaints) == 3
    assert read.complaints[0].startswith("rows.jsonl, line 1: 'prompt' is empty")


def test_columns_of_another_name(tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", {"question": "Name a fruit.", "answer": "Pear."})
    columns = {"instruction": "question", "response": "answer"}
    assert read_pairs(open_input(name), columns=columns).pairs[0].instruction == "Name a fruit."


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        read_pairs(open_input(write(tmp_path / "rows.jsonl")))


def test_prompts_of_evaluations(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "1"}]
    name = write(
        tmp_path / "pairs.jsonl",
        {"prompt": "Zero.", "chosen": ["0"], "rejected": ["1"]},
        {"prompt": [*messages, {"role": "user", "content": "Two."}]},
        {"id": "3", "instruction": "Three."},
    )
    assert read_evaluation_prompts(name) == ["Zero.", "One.", "Two.", "Three."]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Zero."},
        "not json",
        {"prompt": []},
        {"instruction": " "},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}]},
    ],
)
def test_a_prompt_that_cannot_be_read_is_not_passed_over(tmp_path: Path, row: object) -> None:
    with pytest.raises(DataError, match="line 2"):
        read_evaluation_prompts(write(tmp_path / "pairs.jsonl", {"prompt": "Zero."}, row))
