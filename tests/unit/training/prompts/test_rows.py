from pathlib import Path
from typing import Any

import pytest

from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow, RawRow
from flip_reward.data.shapes import Need, find_shape
from flip_reward.errors import DataError
from flip_reward.training.prompts.rows import DATA_REWARDS, PromptRow, convert_rows, read_rows, write_rows

USER = {"role": "user", "content": "Name a fruit."}
BOT = {"role": "assistant", "content": "Apple."}
GOOD: dict[str, Any] = {"messages": [USER], "ground_truth": "Name a fruit.", "dataset": "general-flip"}


def rows_of(*rows: dict[str, Any]) -> Input:
    return Input("rows", read=lambda _: iter([RawRow(n, n + 1, row) for n, row in enumerate(rows)]))


def test_a_trailing_assistant_turn_is_dropped() -> None:
    assert PromptRow.read({**GOOD, "messages": [USER, BOT, USER, BOT, BOT]}).messages[-1].role == "user"
    assert len(PromptRow.read({**GOOD, "messages": [USER, BOT, USER, BOT]}).messages) == 3


def test_several_rewards_have_as_many_ground_truths() -> None:
    row = PromptRow.read({**GOOD, "dataset": ["general-flip", "general-quality"], "ground_truth": ["a", "b"]})
    assert row.datasets == ("general-flip", "general-quality")
    assert row.to_columns()["ground_truth"] == ["a", "b"]
    assert PromptRow.read({**GOOD, "ground_truth": ["one"]}).to_columns()["ground_truth"] == "one"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": [BOT]}, "user turn"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "user", "content": " "}]}, "the last user turn is empty"),
        ({"messages": [{"role": "user"}]}, "no text content"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "unknown role 'robot'"),
        ({"messages": "Name a fruit."}, "'messages'"),
        ({"messages": None}, "'messages'"),
        ({"dataset": "general-flop"}, "did you mean 'general-flip'?"),
        ({"dataset": ["general-flip"] * 2}, "'ground_truth'"),
        ({"dataset": ["general-flip"] * 2, "ground_truth": ["a", "b"]}, "'general-flip'"),
        ({"dataset": 3}, "'dataset'"),
        ({"ground_truth": [1]}, "'ground_truth'"),
        ({"dataset": []}, "'dataset'"),
    ],
)
def test_bad_rows(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        PromptRow.read({**GOOD, **change})
    assert message in str(caught.value)
    found = list(read_rows(rows_of(GOOD, {**GOOD, **change}, GOOD)))
    assert [type(row) for row in found] == [PromptRow, InvalidRow, PromptRow]
    assert isinstance(found[1], InvalidRow)
    assert found[1].line == 2


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "Name a fruit."},
        {"instruction": "Name a fruit.", "response": "Apple."},
        {"prompt": [USER]},
        {"messages": [USER, BOT]},
        {"conversation": [{**USER, "language": "English", "toxic": False}, BOT]},
        {**GOOD, "dataset": "general-quality"},
    ],
)
def test_converting(values: dict[str, Any]) -> None:
    for name in DATA_REWARDS:
        [row] = convert_rows(rows_of(values), name)
        assert isinstance(row, PromptRow)
        assert row.to_columns() == {**GOOD, "dataset": name}


def test_a_formula_is_the_reward_of_a_row() -> None:
    formula = "0.5*flip + copy"
    [row] = convert_rows(rows_of({"prompt": "Name a fruit."}), formula)
    assert isinstance(row, PromptRow)
    assert row.datasets == (formula,)
    with pytest.raises(DataError, match="did you mean 'flip'"):
        next(convert_rows(rows_of({"prompt": "Name a fruit."}), "0.5*flop"))


def test_converting_with_columns_and_bad_rows() -> None:
    shape = find_shape([], {"prompt": "q"}, need=Need.PROMPTS)
    found = list(convert_rows(rows_of({"q": "Hi there"}, {"q": ""}), "general-flip", shape))
    assert isinstance(found[0], PromptRow)
    assert found[0].instruction == "Hi there"
    assert isinstance(found[1], InvalidRow)
    assert "is empty" in found[1].reason
    [bad] = convert_rows(rows_of({"messages": [{"role": "system", "content": "x"}]}), "general-flip")
    assert isinstance(bad, InvalidRow)
    with pytest.raises(DataError, match="flip"):
        list(convert_rows(rows_of(GOOD), "flip"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_written_and_read_again(tmp_path: Path, name: str) -> None:
    rows = [PromptRow.read(GOOD), PromptRow.read({**GOOD, "messages": [USER, BOT, USER]})]
    write_rows(tmp_path / name, rows)
    assert list(read_rows(open_input(str(tmp_path / name)))) == rows
    several = [PromptRow.of(row.messages, "general-quality") for row in rows]
    both = PromptRow(rows[0].messages, ("general-flip", "general-quality"), ("a", "b"))
    write_rows(tmp_path / name, [both, both])
    assert list(read_rows(open_input(str(tmp_path / name)))) == [both, both]
    if name.endswith("parquet"):
        with pytest.raises(DataError, match="Parquet"):
            write_rows(tmp_path / name, [both, *several])
