from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Group, Message
from flip_reward.data.shapes import COLUMNS, Shape, find_shape
from flip_reward.errors import DataError

ASKED = (Message("user", "Name a fruit."),)
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fruit."}]
CHAT_MESSAGES = (Message("system", "Be brief."), *ASKED)


def make_group(values: dict[str, object], columns: dict[str, str] | None = None) -> Group:
    shape = Shape() if columns is None else find_shape([values], columns)
    return shape.to_group(values, "9")


@pytest.mark.parametrize(
    ("values", "messages", "responses"),
    [
        ({"instruction": "Name a fruit.", "response": "Apple."}, ASKED, ("Apple.",)),
        ({"prompt": "Name a fruit.", "response": "Apple."}, ASKED, ("Apple.",)),
        ({"prompt": "Name a fruit.", "responses": ["Apple.", "Rain."]}, ASKED, ("Apple.", "Rain.")),
        ({"instruction": "Name a fruit.", "responses": ["Apple."]}, ASKED, ("Apple.",)),
        ({"prompt": CHAT, "response": "Apple."}, CHAT_MESSAGES, ("Apple.",)),
        ({"messages": CHAT, "response": "Apple."}, CHAT_MESSAGES, ("Apple.",)),
        ({"messages": CHAT, "responses": ["Apple.", ""]}, CHAT_MESSAGES, ("Apple.", "")),
        ({"messages": [*CHAT, {"role": "assistant", "content": "Apple."}]}, CHAT_MESSAGES, ("Apple.",)),
        ({"instruction": "Name a fruit.", "response": ""}, ASKED, ("",)),
        ({"instruction": "Name a fruit.", "response": None}, ASKED, ("",)),
        ({"instruction": "Name a fruit.", "response": 3}, ASKED, ("3",)),
        ({"instruction": "Name a fruit.", "response": ["Apple.", None]}, ASKED, ("Apple.", "")),
        ({"messages": CHAT, "response": None}, CHAT_MESSAGES, ("",)),
        ({"instruction": "Name a fruit.", "response": "a\0b"}, ASKED, ("a\0b",)),
        (
            {"instruction": None, "prompt": "Name a fruit.", "response": "Apple.", "responses": None},
            ASKED,
            ("Apple.",),
        ),
        ({"prompt": "Name a fruit.", "messages": CHAT, "response": "Apple."}, ASKED, ("Apple.",)),
    ],
)
def test_every_shape_of_row_becomes_a_group(
    values: dict[str, object], messages: tuple[Message, ...], responses: tuple[str, ...]
) -> None:
    assert make_group(values) == Group(messages, responses, "9")


def test_messages_alone_end_with_the_response() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Name a fruit."},
        {"role": "assistant", "content": [{"type": "text", "text": "Apple."}]},
    ]
    group = make_group({"messages": messages, "prompt": "a summary that some data sets carry along"})
    assert [message.content for message in group.messages] == ["Hi", "Hello!", "Name a fruit."]
    assert group.responses == ("Apple.",)


@pytest.mark.parametrize(
    ("row_id", "expected"),
    [
        ("q-1", "q-1"),
        (17, "17"),
        (0, "0"),
        (12345678901234567890123, "12345678901234567890123"),
        (3.0, "3"),
        (2.5, "2.5"),
        (Decimal("7.00"), "7"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (datetime(2026, 5, 1, 12, tzinfo=UTC), "2026-05-01T12:00:00+00:00"),
        (date(2026, 5, 1), "2026-05-01"),
        (b"q-1", "q-1"),
        (b"\xff\x00", "ff00"),
        *((odd, "9") for odd in (None, "", float("nan"), float("inf"), True, [1], {"a": 1}, "\udc80")),
    ],
)
def test_ids_are_text_and_default_to_what_the_caller_says(row_id: object, expected: str) -> None:
    assert make_group({"id": row_id, "instruction": "Name a fruit.", "response": "Apple."}).id == expected


@pytest.mark.parametrize(
    ("cells", "responses"),
    [
        ({"response": None}, ("",)),
        ({"response": float("nan")}, ("",)),
        ({"response": 3}, ("3",)),
        ({"response": 0.5}, ("0.5",)),
        ({"response": Decimal("1.50")}, ("1.50",)),
        ({"responses": None}, ("",)),
        ({"responses": ["a", None, 3, float("nan")]}, ("a", "", "3", "")),
        ({"messages": [*CHAT, {"role": "assistant", "content": None}]}, ("",)),
    ],
)
def test_a_missing_response_is_empty_and_a_number_is_its_text(
    cells: dict[str, object], responses: tuple[str, ...]
) -> None:
    assert make_group({"instruction": "Hi", **cells}).responses == responses


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"instruction": "Hi", "response": True}, "'response' must be text, not true or false"),
        ({"instruction": "Hi", "response": {"score": 1}}, "'response' must be text, not an object with 'score'"),
        ({"instruction": "Hi", "responses": []}, "'responses'"),
        ({"instruction": "Hi", "responses": "a"}, "'responses' must be a list of texts, not text"),
        ({"instruction": "Hi", "responses": ["a", ["b"]]}, "number 2 of 'responses' must be text, not a list"),
        ({"instruction": "Hi", "responses": ["a", False]}, "number 2 of 'responses' must be text, not true or false"),
        ({"instruction": float("nan"), "response": "a"}, "'instruction' is null"),
        ({"instruction": "", "response": "a"}, "'instruction' is empty"),
        ({"prompt": " \n", "response": "a"}, "'prompt' is empty"),
        ({"instruction": 1.5, "response": "a"}, "'instruction' must be text or a list of messages, not a number"),
        ({"instruction": None, "response": "a"}, "'instruction' is null"),
        ({"prompt": [], "response": "a"}, "at least one message"),
        ({"prompt": ["Hi"], "response": "a"}, "message"),
        ({"prompt": [{"role": "robot", "content": "Hi"}], "response": "a"}, "unknown role 'robot'"),
        ({"prompt": [{"content": "Hi"}], "response": "a"}, "has no role"),
        ({"messages": "Hi"}, "'messages' must be a list of messages, not text"),
        (
            {"messages": {"role": "user"}, "response": "a"},
            "'messages' must be text or a list of messages, not an object",
        ),
        ({"messages": []}, "'messages'"),
        ({"messages": CHAT}, "'messages'"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "begins with the response"),
        ({"messages": [*CHAT, {"role": "assistant", "content": 5}]}, "the last message of 'messages' holds a number"),
        (
            {"instruction": "\ud800", "response": "a"},
            "the user message holds half a character (lone surrogate U+D800)",
        ),
        ({"instruction": "Hi", "response": "é\udfff"}, "the response holds half a character (lone surrogate U+DFFF)"),
        ({"instruction": "Hi"}, "no column 'response' or 'responses'; the row has 'instruction'"),
        ({"instruction": "Hi", "respones": "a"}, "did you mean 'respones'?"),
        ({"response": "a"}, "no column 'instruction' or 'prompt' or 'messages'; the row has 'response'"),
        ({}, "the row is empty"),
    ],
)
def test_a_row_of_no_known_shape_says_what_is_wrong(values: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        make_group(values)
    assert reason in str(caught.value)


def test_columns_are_listed_only_so_far() -> None:
    with pytest.raises(DataError) as caught:
        make_group({f"{'wide' * 100}{number}": "" for number in range(1000)})
    assert len(str(caught.value)) < 800
    assert str(caught.value).endswith(", ...")


def test_mapped_columns_take_the_place_of_ours() -> None:
    values: dict[str, object] = {"instruction": "not this", "question": "Name a fruit.", "answer": "Apple.", "uid": 4}
    group = make_group(values, {"prompt": "question", "response": "answer", "id": "uid"})
    assert group == Group(ASKED, ("Apple.",), "4")


def test_mapped_messages_beat_a_prompt_of_the_same_row() -> None:
    group = make_group({"prompt": "not this", "chat": CHAT, "response": "Apple."}, {"messages": "chat"})
    assert group == Group(CHAT_MESSAGES, ("Apple.",), "9")


def test_a_mapped_response_is_never_replaced_by_an_assistant_message() -> None:
    chat = [*CHAT, {"role": "assistant", "content": "Apple."}]
    group = make_group({"messages": chat, "answer": None}, {"response": "answer"})
    assert group.responses == ("",)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(COLUMNS), json_values))
def test_any_row_becomes_a_group_or_a_reason(values: dict[str, Any]) -> None:
    try:
        group = make_group(values)
    except DataError as error:
        assert str(error)  # noqa: PT017
    else:
        assert group.id
        assert all(message.content.encode() is not None for message in group.messages)
        assert all(response.encode() is not None for response in group.responses)
