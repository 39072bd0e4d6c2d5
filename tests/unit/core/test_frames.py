from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.core.prompts import (
    COMPLETION_PLACEHOLDERS,
    COMPLETION_PROMPTS,
    CompletionPrompt,
    Template,
    load_completion_prompt,
)
from flip_reward.core.response import InferenceTarget
from flip_reward.errors import TemplateError

ASKED = InferenceTarget("Name a fruit.")


@pytest.mark.parametrize("name", COMPLETION_PROMPTS)
def test_the_frames_of_the_package(name: str) -> None:
    frame = load_completion_prompt(name)
    filled = frame.fill("A PEAR.", ASKED)
    text = filled if isinstance(filled, str) else filled[-1].content
    assert "A PEAR." in text
    assert "Name a fruit." not in text
    assert isinstance(filled, str) == frame.is_completion


@given(st.text())
def test_a_response_stays_text(response: str) -> None:
    frame = CompletionPrompt(Template("mine", None, "{response} {instruction}", COMPLETION_PLACEHOLDERS))
    assert frame.fill(response, ASKED) == response + " "


def test_earlier_turns_are_shown_where_there_is_a_place() -> None:
    frame = CompletionPrompt(Template("mine", None, "{context}\n{response}\n{instruction}", COMPLETION_PLACEHOLDERS))
    asked = InferenceTarget("And another?", (Message("user", "Name a fruit."),))
    assert frame.fill("Pear.", asked) == '{"role": "user", "content": "Name a fruit."}\nPear.\n'


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "FRAME_USER.prompt").write_text("A: {response}\nQ: {instruction}\n")
    (tmp_path / "chat_USER.prompt").write_text("What was asked?\n{response}")
    (tmp_path / "chat_SYSTEM.prompt").write_text("Be brief.")
    assert load_completion_prompt(folder=tmp_path).fill("Pear.", ASKED) == "A: Pear.\nQ: "
    assert load_completion_prompt("chat", folder=tmp_path).fill("Pear.", ASKED) == (
        Message("system", "Be brief."),
        Message("user", "What was asked?\nPear."),
    )


@pytest.mark.parametrize(
    ("system", "user", "reason"),
    [
        (None, "{instruction} {response}", "must be one text that ends with"),
        (None, "{response} {instruction} {instruction}", "must be one text that ends with"),
        ("Hello", "{response} {instruction}", "must be one text that ends with"),
        ("{instruction}", "{response}", "must be one text that ends with"),
        (None, '{response} {{"INFERRED INSTRUCTION": ""}}', "asks for JSON"),
        (None, "{instruction}", "no place for {response}"),
    ],
)
def test_malformed_frames(system: str | None, user: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        CompletionPrompt(Template("mine", system, user, COMPLETION_PLACEHOLDERS))


def test_unknown_frames() -> None:
    with pytest.raises(TemplateError, match="no frame is called 'reasoned'"):
        load_completion_prompt("reasoned")
