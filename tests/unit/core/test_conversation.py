from __future__ import annotations

import numpy as np
import pytest

from flip_reward.core.conversation import Group, read_content
from flip_reward.errors import ConversationError

IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Hi", "Hi"),
        ([{"type": "text", "text": "Hi, "}, {"type": "text", "text": "you"}], "Hi, you"),
        ([IMAGE, {"type": "text", "text": "What is this?"}], "What is this?"),
        ([{"type": "text", "text": "Compare "}, IMAGE, {"type": "text", "text": "with"}, IMAGE], "Compare with"),
        ([{"type": "text", "text": "This"}, IMAGE, {"type": "text", "text": "or that"}], "This\nor that"),
        ([{"type": "image", "text": None}, {"type": "text", "text": "What?", "image": None}], "What?"),
        ([{"type": "input_image"}, {"type": "input_text", "text": "What?"}], "What?"),
        ([{"type": "output_text", "text": "A pear."}], "A pear."),
        (["What", " is this?", IMAGE], "What is this?"),
        ([{"text": "Look."}, {"image": "a.png"}, {"text": "What is this?"}], "Look.\nWhat is this?"),
        ([{"image": "a.png"}], None),
        ([IMAGE, {"type": "text", "text": ""}], ""),
        ([IMAGE], None),
        ([], None),
        ([{"type": "text", "text": None}], None),
        ([{"type": "text"}, "Hi"], None),
        ([7], None),
        (7, None),
        (None, None),
    ],
)
def test_the_text_among_the_parts_of_a_message(content: object, text: str | None) -> None:
    assert read_content({"role": "user", "content": content}) == text


def test_a_message_without_text_is_refused() -> None:
    with pytest.raises(ConversationError, match="user message has no text"):
        Group.of([{"role": "user", "content": [IMAGE]}], "A pear.")


@pytest.mark.parametrize(
    ("responses", "reason"),
    [
        (["a", float("nan")], "response 2 is NaN"),
        ([None], "response 1 is None"),
        (["a", "b", 3], "response 3 is of type int"),
        (float("nan"), "not NaN"),
        (None, "not None"),
        (b"ab", "of type bytes"),
        ({"a": 1}, "of type dict"),
        ([], "at least one response"),
    ],
)
def test_responses_are_text(responses: list[str], reason: str) -> None:
    with pytest.raises(ConversationError, match=reason):
        Group.of("Hi", responses)


@pytest.mark.parametrize(("prompt", "reason"), [(None, "None"), (float("nan"), "NaN"), (5, "int"), ({}, "dict")])
def test_a_prompt_is_text_or_messages(prompt: str, reason: str) -> None:
    with pytest.raises(ConversationError, match=reason):
        Group.of(prompt, "Hello.")


def test_texts_of_other_libraries_become_plain() -> None:
    group = Group.of(np.str_("Hi"), [np.str_("Hello."), "Bye."])
    assert {type(group.messages[0].content), *map(type, group.responses)} == {str}
    assert Group.of("Hi", np.array(["Hello.", "Bye."])).responses == ("Hello.", "Bye.")
    assert type(Group.of("Hi", np.str_("Hello.")).responses[0]) is str
