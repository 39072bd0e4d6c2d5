from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.core.prompts import FRAME_PLACES, FRAMES, Frame, Template, load_frame
from flip_reward.core.response import Inference
from flip_reward.errors import TemplateError

ASKED = Inference("Name a fruit.")


@pytest.mark.parametrize("name", FRAMES)
def test_the_frames_of_the_package(name: str) -> None:
    frame = load_frame(name)
    filled = frame.fill("A PEAR.", ASKED)
    text = filled if isinstance(filled, str) else filled[-1].content
    assert "A PEAR." in text
    assert "Name a fruit." not in text
    assert isinstance(filled, str) == frame.is_completion


@given(st.text())
def test_a_response_stays_text(response: str) -> None:
    frame = Frame(Template("mine", None, "{response} {instruction}", FRAME_PLACES))
    assert frame.fill(response, ASKED) == response + " "


def test_earlier_turns_are_shown_where_there_is_a_place() -> None:
    frame = Frame(Template("mine", None, "{context}\n{response}\n{instruction}", FRAME_PLACES))
    asked = Inference("And another?", (Message("user", "Name a fruit."),))
    assert frame.fill("Pear.", asked) == '{"role": "user", "content": "Name a fruit."}\nPear.\n'


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "FRAME_USER.prompt").write_text("A: {response}\nQ: {instruction}\n")
    (tmp_path / "chat_USER.prompt").write_text("What was asked?\n{response}")
    (tmp_path / "chat_SYSTEM.prompt").write_text("Be brief.")
    assert load_frame(folder=tmp_path).fill("Pear.", ASKED) == "A: Pear.\nQ: "
    assert load_frame("chat", folder=tmp_path).fill("Pear.", ASKED) == (
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
        Frame(Template("mine", system, user, FRAME_PLACES))


def test_unknown_frames() -> None:
    with pytest.raises(TemplateError, match="no frame is called 'reasoned'"):
        load_frame("reasoned")
