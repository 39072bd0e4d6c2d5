"""Winners as files write them, ties, and what says nothing."""

from __future__ import annotations

import pytest

from flip_reward.data.shapes import Need, find_shape
from flip_reward.errors import DataError

PAIR = {"prompt": "Name a tree.", "answer_a": "An oak.", "answer_b": "A stone."}
A, B = (True, False), (False, True)


def choose(*winners: object) -> list[tuple[bool, ...]]:
    rows = [{**PAIR, "winner": winner} for winner in winners]
    shape = find_shape(rows, need=Need.PREFERENCES)
    return [shape.choose(row) for row in rows]


@pytest.mark.parametrize(
    ("winners", "expected"),
    [
        (["a", "B"], [A, B]),
        (["answer_a", "Answer B"], [A, B]),
        (["model_a", "model_b"], [A, B]),
        (["response_b"], [B]),
        (["first", "second"], [A, B]),
        ([0, 1], [A, B]),
        ([1, 2], [A, B]),
        (["1", "2.0"], [A, B]),
        ([1.0, 2.0], [A, B]),
        (["A>B", "B>A", "[[A>>B]]", "a < b", "model_b > model_a"], [A, B, A, B, B]),
        (["option_b", "System A"], [B, A]),
    ],
)
def test_winners(winners: list[object], expected: list[tuple[bool, ...]]) -> None:
    assert choose(*winners) == expected


@pytest.mark.parametrize(
    ("winners", "reason"),
    [
        (["a", "tie"], "'tie': none of the candidates is better"),
        (["a", "tie (bothbad)"], "none of the candidates is better"),
        (["a", "Both"], "none of the candidates is better"),
        (["a", "A=B"], "none of the candidates is better"),
        (["a", "not a"], "'not a', which is none of"),
        (["a", "a over b"], "'a over b', which is none of"),
        ([1, 2, 0], "is 0: none of the candidates is better"),
        ([1, 2, 3], "is 3: none"),
        (["a", None], "'winner' is empty"),
        (["a", "c"], "'c', which is none of 'answer_a', 'answer_b'"),
        ([True], "must name a candidate, not be true or false"),
        ([1, 1], "does it count from 0 or from 1"),
    ],
)
def test_what_says_nothing_is_an_error_of_the_row(winners: list[object], reason: str) -> None:
    with pytest.raises(DataError, match="winner") as caught:
        choose(*winners)
    assert reason in str(caught.value)


TREES = {"prompt": "Name a tree.", "responses": ["A stone.", "An oak.", "A cup."]}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("winner", [1, 0]),
        ("winner", [2, 1, 3]),
        ("best", ["An oak.", "A stone."]),
        ("labels", [[0, 1, 0], [True, False, False]]),
        ("labels", ["[0, 1, 0]", "[1, 0, 0]"]),
        ("scores", [[0.1, 0.5, 0.2], [3, 2, 1]]),
    ],
)
def test_which_of_a_list_is_better(column: str, values: list[object]) -> None:
    rows = [{**TREES, column: value} for value in values]
    shape = find_shape(rows, need=Need.PREFERENCES)
    assert [shape.choose(row).index(True) for row in rows[:2]] == [1, 0]


@pytest.mark.parametrize(
    ("winner", "reason"),
    [
        ([0, 1], "2 ratings for 3 candidates"),
        ([1, 1, 1], "rated alike"),
        ([0, "high", 1], "'high' is neither a candidate nor a number"),
        (None, "is empty"),
        (7, "is 7: none of the 3 candidates"),
        ("A tree.", "'A tree.' is neither"),
    ],
)
def test_what_says_nothing_of_a_list_is_an_error_of_the_row(winner: object, reason: str) -> None:
    shape = find_shape([{**TREES, "winner": 0}], need=Need.PREFERENCES)
    with pytest.raises(DataError) as caught:
        shape.choose({**TREES, "winner": winner})
    assert reason in str(caught.value)


def test_three_columns_count_from_where_their_winners_say() -> None:
    rows = [
        {"prompt": "Name a tree.", "a": "No.", "b": "Oak.", "c": "Cup.", "winner": number} for number in (0, 2, 1)
    ]
    shape = find_shape(rows, {"responses": "a+b+c", "winner": "winner"}, need=Need.PREFERENCES)
    assert [shape.choose(row).index(True) for row in rows] == [0, 2, 1]


def test_ratings_that_are_equal_or_missing() -> None:
    completions = [{"response": "An oak.", "overall_score": 4}, {"response": "A stone.", "overall_score": 4.0}]
    row = {"instruction": "Name a tree.", "completions": completions}
    shape = find_shape([row], need=Need.PREFERENCES)
    with pytest.raises(DataError, match="rated alike"):
        shape.choose(row)
    with pytest.raises(DataError, match="'overall_score'"):
        shape.choose({**row, "completions": [{"response": "An oak."}]})


def test_the_sign_of_a_preference() -> None:
    base = {"context": [{"role": "user", "content": "Hi"}], "response1": "Hello!", "response2": "No."}
    rows = [{**base, "overall_preference": number} for number in (-3, 2, 0)]
    shape = find_shape(rows, need=Need.PREFERENCES)
    assert [shape.choose(row) for row in rows[:2]] == [A, B]
    with pytest.raises(DataError, match="is 0: none"):
        shape.choose(rows[2])


def arena(prompt: str, a: str, b: str, *flags: object) -> dict[str, object]:
    """Make a row as LMSYS's arena has them on Kaggle."""
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    return {"id": 1, "prompt": prompt, "response_a": a, "response_b": b} | dict(zip(names, flags, strict=False))


def test_turns_as_lists_in_json_with_a_flag_for_each_candidate() -> None:
    one = arena('["Name a \\"tree\\".\\nOr two."]', '["An oak."]', "[null]", 0, 1, 0)
    two = arena('["Hi.", "Name a tree."]', '["Hello.", "An oak."]', '["Hello.", "A stone."]', "1", "0", "0")
    tie, odd = arena('["Hi."]', '["A"]', '["B"]', 0, 0, 1), arena('["Hi."]', '["A", "B"]', '["B"]', 1, 0, 0)
    shape = find_shape([one, two, tie, odd], need=Need.PREFERENCES)
    group = shape.to_group(one, "1")
    assert ([turn.content for turn in group.messages], group.responses) == (
        ['Name a "tree".\nOr two.'],
        ("An oak.", ""),
    )
    group = shape.to_group(two, "2")
    assert [(turn.role, turn.content) for turn in group.messages] == [
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "Name a tree."),
    ]
    assert group.responses == ("An oak.", "A stone.")
    assert [shape.choose(one), shape.choose(two)] == [B, A]
    with pytest.raises(DataError, match="none of the candidates is better"):
        shape.choose(tie)
    with pytest.raises(DataError, match="'response_a' has 2 turns, and the prompt 1"):
        shape.to_group(odd, "4")
    assert find_shape([arena('["Hi."]', '["A"]', '["B"]')]).to_group(tie, "3").responses == ("A", "B")


def test_prompts_that_are_lists_of_turns() -> None:
    shape = find_shape([arena('["Hi."]', '["A"]', '["B"]', 1, 0, 0)], need=Need.PROMPTS)
    assert [turn.content for turn in shape.to_group({"prompt": '["Hi."]'}, "1").messages] == ["Hi."]
    with pytest.raises(DataError, match="2 turns"):
        shape.to_group({"prompt": '["Hi.", "Name a tree."]'}, "2")


def test_candidates_of_other_conversations_are_refused() -> None:
    def chat(*texts: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]

    row = {"chosen": chat("Hi", "Hello!", "Bye", "Bye!"), "rejected": chat("Hi", "What?", "Bye", "Bye!")}
    with pytest.raises(DataError, match="differ before their last turn"):
        find_shape([row]).to_group(row, "")
