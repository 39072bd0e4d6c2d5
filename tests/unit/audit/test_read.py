"""Rows of files as prompts with genuine responses and labels."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flip_reward.audit.prompts import AuditPrompt
from flip_reward.audit.read import GenuineData, read_genuine
from flip_reward.core.response import visible_answer
from flip_reward.data.rows import Input
from flip_reward.errors import DataError

Row = Mapping[str, object]


def read(*rows: Row, limit: int | None = None, group_by: str | None = None, skip: bool = False) -> GenuineData:
    source = Input.in_memory("rows", lambda: rows)
    return read_genuine([source], visible_answer, limit=limit, group_by=group_by, skip_bad_rows=skip)


def shown(prompt: AuditPrompt) -> tuple[str, tuple[str, ...], tuple[bool, ...] | None]:
    return prompt.messages[-1].content, prompt.genuine, prompt.chosen


@pytest.mark.parametrize(
    ("row", "genuine", "chosen"),
    [
        ({"prompt": "p", "response": "a"}, ("a",), None),
        ({"prompt": "p", "responses": ["a", "b"]}, ("a", "b"), None),
        ({"prompt": "p", "chosen": ["a"], "rejected": ["b", "c"]}, ("a", "b", "c"), (True, False, False)),
        ({"prompt": "p", "response_a": "a", "response_b": "b", "winner": "b"}, ("a", "b"), (False, True)),
        ({"prompt": "p", "response_a": "a", "response_b": "b", "winner": "tie"}, ("a", "b"), None),
        ({"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]}, ("a",), None),
        ({"prompt": "p", "response": "a", "label": True}, ("a",), (True,)),
    ],
)
def test_every_shape_and_its_labels(row: Row, genuine: tuple[str, ...], chosen: tuple[bool, ...] | None) -> None:
    [prompt] = read(row).prompts
    assert shown(prompt) == ("p", genuine, chosen)


def test_rows_with_a_label_each_are_joined_by_their_prompt_wherever_they_stand() -> None:
    rows = [
        {"prompt": prompt, "response": f"{prompt}{answer}", "label": good}
        for answer, good in (("1", 1), ("2", 0))
        for prompt in ("p", "q")
    ]
    assert [shown(prompt) for prompt in read(*rows).prompts] == [
        ("p", ("p1", "p2"), (True, False)),
        ("q", ("q1", "q2"), (True, False)),
    ]
    assert [shown(prompt)[0] for prompt in read(*rows, limit=1).prompts] == ["p"]
    assert read(*rows, limit=1).prompts[0].genuine == ("p1", "p2"), "its later rows belong to it"


def test_rows_form_groups_as_they_do_when_they_are_scored() -> None:
    follow = [{"prompt": prompt, "response": answer} for prompt in ("p", "q") for answer in ("a", "b")]
    assert [prompt.genuine for prompt in read(*follow).prompts] == [("a", "b"), ("a", "b")]
    scattered = [{"key": n % 2, "prompt": f"p{n % 2}", "response": f"r{n}"} for n in range(4)]
    assert [prompt.genuine for prompt in read(*scattered).prompts] == [("r0",), ("r1",), ("r2",), ("r3",)]
    assert [prompt.genuine for prompt in read(*scattered, group_by="key").prompts] == [("r0", "r2"), ("r1", "r3")]
    assert [prompt.genuine for prompt in read(*scattered, group_by="key", limit=1).prompts] == [("r0", "r2")]


def test_prompts_have_names_of_their_own() -> None:
    rows = [{"id": "same", "prompt": f"p{n}", "responses": ["a", "b"]} for n in range(3)]
    assert len({prompt.id for prompt in read(*rows).prompts}) == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"prompt": " ", "responses": ["a"]}, "empty"),
        ({"prompt": "p", "responses": []}, "'responses' is an empty list"),
        ({"prompt": "p", "responses": ["", " "]}, "no response with an answer"),
        ({"prompt": "p", "responses": ["<think>never ends"]}, "no response with an answer"),
        ({"prompt": [{"role": "system", "content": "s"}], "responses": ["a"]}, "no user message"),
    ],
)
def test_rows_that_cannot_be_used_are_named_or_left_out(bad: Row, reason: str) -> None:
    good = {"prompt": "p", "responses": ["a", ""]}
    with pytest.raises(DataError, match=reason) as caught:
        read(good, bad)
    assert "1 of 2 rows cannot be used" in str(caught.value)
    assert "--skip-bad-rows" in str(caught.value.hint)
    left = read(good, bad, skip=True)
    assert [prompt.genuine for prompt in left.prompts] == [("a", "")], "a blank response is an outcome"
    assert [row.line for row in left.bad_rows] == [2]


def test_prompts_without_responses_are_refused() -> None:
    with pytest.raises(DataError, match="response"):
        read({"prompt": "p"}, {"prompt": "q"})
    with pytest.raises(DataError, match="there are no prompts with responses"):
        read({"prompt": "p", "responses": [""]}, skip=True)


def test_prompts_whose_better_response_is_unknown_are_counted() -> None:
    rows = [{"prompt": str(n), "response_a": "a", "response_b": "b", "winner": "tie" if n else "a"} for n in range(3)]
    assert read(*rows).unlabelled == 2
    assert read({"prompt": "p", "response": "a"}).unlabelled == 0
