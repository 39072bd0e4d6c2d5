from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.core.prompts import BUILT_IN, Template, load_templates, render_context
from flip_reward.core.replies import ReplyFormat
from flip_reward.core.response import InferenceTarget, Target
from flip_reward.errors import TemplateError


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_templates_hold_fixed_text_first_and_the_response_last(name: str) -> None:
    template = Template.built_in(name)
    filled = template.fill({"response": "RESPONSE", "context": "CONTEXT"})
    # Tiny models do what they read last, so theirs ends with the question.
    assert filled.user.endswith("RESPONSE") == (name != "compact")
    assert filled.system is None or "{{" not in filled.system
    assert template.shows("context") == ("CONTEXT" in filled.user)


def test_reply_formats_of_the_built_in_templates() -> None:
    formats = {name: Template.built_in(name).reply_format for name in BUILT_IN}
    text = {name for name, reply_format in formats.items() if reply_format is ReplyFormat.TEXT}
    assert text == {"direct", "compact", "tuned"}
    assert '{"REASONING": ' in (Template.built_in("reasoned").fill({"response": "x"}).system or "")


@given(st.text(), st.text())
def test_filling_is_one_pass(response: str, body: str) -> None:
    template = Template("t", None, "{{a}} {context} {response}")
    filled = template.fill({"response": response, "context": body}).user
    assert filled == f"{{a}} {body} {response}"


@given(st.lists(st.text(), min_size=1))
def test_no_text_inside_a_turn_can_pass_for_another_turn(bodies: list[str]) -> None:
    rendered = render_context(Message("user", body) for body in bodies)
    assert len(rendered.split("\n")) == len(bodies)


@pytest.mark.parametrize("text", ["no place", "{response} {other}", "{response} {", "} {response}", "{} {response}"])
def test_malformed_templates(text: str) -> None:
    with pytest.raises(TemplateError):
        Template("bad", None, text)


def test_templates_for_targets() -> None:
    plain = InferenceTarget("x")
    with_context = InferenceTarget("x", (Message("user", "y"),))
    pair = load_templates()
    assert (pair.choose(plain).name, pair.choose(with_context).name) == ("reasoned", "contextual")
    assert load_templates("direct").choose(with_context).name == "direct"
    assert load_templates(target=Target.SYSTEM).choose(with_context).name == "system_prompt"
    with pytest.raises(TemplateError, match="no template is called 'resoned'"):
        load_templates("resoned")


def test_a_template_that_asks_for_another_target_is_refused() -> None:
    with pytest.raises(TemplateError, match="does not ask for the target"):
        load_templates("direct", target=Target.SYSTEM)


def test_without_earlier_turns_none_are_announced() -> None:
    assert load_templates("contextual").choose(InferenceTarget("x")).name == "reasoned"


def test_a_users_own_templates(tmp_path: Path) -> None:
    (tmp_path / "FLIP_SYSTEM.prompt").write_text('Answer: {{"INFERRED INSTRUCTION": "..."}}', encoding="utf-8")
    (tmp_path / "FLIP_USER.prompt").write_text("{response}", encoding="utf-8")
    (tmp_path / "short.user.txt").write_text("Short: {response}", encoding="utf-8")
    own = load_templates(folder=tmp_path).plain
    assert own.fill({"response": "{response}"}).messages == (
        Message("system", 'Answer: {"INFERRED INSTRUCTION": "..."}'),
        Message("user", "{response}"),
    )
    assert own.reply_format is ReplyFormat.JSON
    assert load_templates("short", folder=tmp_path).plain.system is None
    assert own.sha256 != load_templates("short", folder=tmp_path).plain.sha256


def test_a_missing_or_unreadable_template(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="FLIP_USER"):
        load_templates(folder=tmp_path)
    (tmp_path / "bytes.user.txt").write_bytes(b"\xff{response}")
    with pytest.raises(TemplateError, match="UTF-8"):
        load_templates("bytes", folder=tmp_path)
