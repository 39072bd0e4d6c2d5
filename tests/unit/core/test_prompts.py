import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.core.prompts import (
    BUILT_IN,
    COMPLETE,
    COMPLETION_PROMPTS,
    INFER,
    CompletionPrompt,
    JudgeKind,
    Template,
    load_completion_prompt,
    load_judge_template,
    load_template,
    load_templates,
    render_context,
    render_list,
    render_pair,
    render_text,
)
from flip_reward.core.replies.parse import ReplyFormat
from flip_reward.core.response import InferenceTarget, Target
from flip_reward.errors import TemplateError


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_templates_hold_fixed_text_first_and_the_response_last(name: str) -> None:
    template = load_template(INFER, name)
    *system, user = template.format({"response": "RESPONSE", "context": "CONTEXT"})
    # Tiny models do what they read last, so theirs ends with the question.
    assert user.content.endswith("RESPONSE") == (name != "compact")
    assert not any("{{" in message.content for message in system)
    assert ("context" in template.placeholders) == ("CONTEXT" in user.content)


def test_reply_formats_of_the_built_in_templates() -> None:
    formats = {name: load_template(INFER, name).reply_format for name in BUILT_IN}
    text = {name for name, reply_format in formats.items() if reply_format is ReplyFormat.TEXT}
    assert text == {"direct", "compact", "tuned"}
    assert '{"REASONING": ' in (load_template(INFER, "reasoned").system or "")


@given(st.text(), st.text())
@example("{context} %(context)s %s %%", "{response} %(response)s")
def test_formatting_is_one_pass(response: str, body: str) -> None:
    template = Template("t", None, "{{a}} 100% %s %(response)s {context} {response}")
    [formatted] = template.format({"response": response, "context": body, "unused": "x"})
    assert formatted.content == f"{{a}} 100% %s %(response)s {body} {response}"


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
    with pytest.raises(TemplateError, match="resoned"):
        load_templates("resoned")


def test_a_template_that_asks_for_another_target_is_refused() -> None:
    with pytest.raises(TemplateError, match="system"):
        load_templates("direct", target=Target.SYSTEM)


def test_without_earlier_turns_none_are_announced() -> None:
    assert load_templates("contextual").choose(InferenceTarget("x")).name == "reasoned"


def test_a_users_own_templates(tmp_path: Path) -> None:
    (tmp_path / "FLIP_SYSTEM.prompt").write_text('Answer: {{"INFERRED INSTRUCTION": "..."}}', encoding="utf-8")
    (tmp_path / "FLIP_USER.prompt").write_text("{response}", encoding="utf-8")
    (tmp_path / "short.user.txt").write_text("Short: {response}", encoding="utf-8")
    own = load_templates(folder=tmp_path).plain
    assert own.format({"response": "{response}"}) == (
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


ASKED = InferenceTarget("Name a fruit.")


@pytest.mark.parametrize("name", COMPLETION_PROMPTS)
def test_the_completion_prompts_of_the_package(name: str) -> None:
    prompt = load_completion_prompt(name)
    formatted = prompt.format("A PEAR.", ASKED)
    text = formatted if isinstance(formatted, str) else formatted[-1].content
    assert "A PEAR." in text
    assert "Name a fruit." not in text
    assert isinstance(formatted, str) == prompt.is_completion


@given(st.text())
def test_a_response_stays_text(response: str) -> None:
    prompt = CompletionPrompt(Template("mine", None, "{response} {instruction}", COMPLETE))
    assert prompt.format(response, ASKED) == response + " "


def test_earlier_turns_are_shown_where_there_is_a_placeholder() -> None:
    prompt = CompletionPrompt(Template("mine", None, "{context}\n{response}\n{instruction}", COMPLETE))
    asked = InferenceTarget("And another?", (Message("user", "Name a fruit."),))
    assert prompt.format("Pear.", asked) == '{"role": "user", "content": "Name a fruit."}\nPear.\n'


def test_a_users_own_completion_prompts(tmp_path: Path) -> None:
    (tmp_path / "FRAME_USER.prompt").write_text("A: {response}\nQ: {instruction}\n")
    (tmp_path / "chat_USER.prompt").write_text("What was asked?\n{response}")
    (tmp_path / "chat_SYSTEM.prompt").write_text("Be brief.")
    assert load_completion_prompt(folder=tmp_path).format("Pear.", ASKED) == "A: Pear.\nQ: "
    assert load_completion_prompt("chat", folder=tmp_path).format("Pear.", ASKED) == (
        Message("system", "Be brief."),
        Message("user", "What was asked?\nPear."),
    )


@pytest.mark.parametrize(
    ("system", "user", "reason"),
    [
        (None, "{instruction} {response}", "ends with {instruction}"),
        (None, "{response} {instruction} {instruction}", "ends with {instruction}"),
        ("Hello", "{response} {instruction}", "ends with {instruction}"),
        ("{instruction}", "{response}", "ends with {instruction}"),
        (None, '{response} {{"INFERRED INSTRUCTION": ""}}', "asks for JSON"),
        (None, "{instruction}", "{response}"),
    ],
)
def test_malformed_completion_prompts(system: str | None, user: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(reason)):
        CompletionPrompt(Template("mine", system, user, COMPLETE))


def test_unknown_completion_prompts() -> None:
    with pytest.raises(TemplateError, match="reasoned"):
        load_completion_prompt("reasoned")


KEYS = {
    JudgeKind.POINTWISE: '"SCORE": ',
    JudgeKind.PAIRWISE: '"BETTER_RESPONSE": ',
    JudgeKind.LISTWISE: '"BEST_RESPONSE_INDEX": ',
}
LOGIT_KINDS = (JudgeKind.LOGIT_YES, JudgeKind.LOGIT_RATING, JudgeKind.LOGIT_PAIRWISE)


@pytest.mark.parametrize("kind", LOGIT_KINDS)
def test_logit_judges_are_asked_last(kind: JudgeKind) -> None:
    values = dict.fromkeys(kind.task.required, '"RESPONSE"') | {"conversation": "CONVERSATION"}
    _, user = load_judge_template(kind).format(values)
    question = user.content.rpartition('"RESPONSE"\n\n')[2]
    assert "CONVERSATION" in user.content
    assert "response" in question


@pytest.mark.parametrize("kind", KEYS)
def test_judge_templates_hold_fixed_text_first_and_what_is_judged_last(kind: JudgeKind) -> None:
    values = dict.fromkeys(kind.task.required, "RESPONSE") | {
        "conversation": "CONVERSATION",
        "instruction": "INSTRUCTION",
    }
    system, user = load_judge_template(kind).format(values)
    assert user.content.index("CONVERSATION") < user.content.index("RESPONSE")
    assert user.content.endswith("RESPONSE")
    assert '{"REASONING": ' in (system.content)
    assert KEYS[kind] in (system.content)


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (JudgeKind.POINTWISE, "llmjudge_pointwise_rating", "{instruction} {response}"),
        (JudgeKind.PAIRWISE, "llmjudge_pairwise_ranking", "{instruction} {response_a} {response_b}"),
        (JudgeKind.LISTWISE, "llmjudge_listwise_ranking", "{conversation} {responses}"),
    ],
)
def test_a_users_own_judge_templates(tmp_path: Path, kind: JudgeKind, name: str, text: str) -> None:
    (tmp_path / f"{kind.value}.user.txt").write_text(f"ours {text}", encoding="utf-8")
    assert load_judge_template(kind, folder=tmp_path).user == f"ours {text}"
    (tmp_path / f"{name}_SYSTEM.prompt").write_text("You judge.", encoding="utf-8")
    (tmp_path / f"{name}_USER.prompt").write_text(f"theirs {text}", encoding="utf-8")
    loaded = load_judge_template(kind, folder=tmp_path)
    assert (loaded.system, loaded.user) == ("You judge.", f"theirs {text}")
    assert load_judge_template(kind, folder=tmp_path, name=kind.value).user == f"ours {text}"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (JudgeKind.POINTWISE, "{response}", "{conversation} or {instruction}"),
        (JudgeKind.PAIRWISE, "{prompt} {response1}", "{response_b}"),
        (JudgeKind.PAIRWISE, "{prompt} {response_list}", "'{response_list}'"),
        (JudgeKind.POINTWISE, "{instruction}", "{response}"),
        (JudgeKind.PAIRWISE, "{instruction} {response_a}", "{response_b}"),
        (JudgeKind.LISTWISE, "{instruction} {response}", "'{response}'"),
    ],
)
def test_malformed_judge_templates(tmp_path: Path, kind: JudgeKind, text: str, message: str) -> None:
    (tmp_path / "own.user.txt").write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError, match=re.escape(message)):
        load_judge_template(kind, folder=tmp_path, name="own")


def test_prompt_files_of_the_papers_form(tmp_path: Path) -> None:
    shown = {
        JudgeKind.POINTWISE: ("llmjudge_pointwise_rating", "{response}", "SCORE", "Plum\n{prompt}"),
        JudgeKind.PAIRWISE: (
            "llmjudge_pairwise_ranking",
            "[A]\n{response1}\n[B]\n{response2}",
            "BETTER_RESPONSE",
            '[A]\nPlum\n{prompt}\n[B]\n"Fig"',
        ),
        JudgeKind.LISTWISE: (
            "llmjudge_listwise_ranking",
            "{response_list}",
            "BEST_RESPONSE_INDEX",
            '{"index": 0, "response": "Plum\\n{prompt}"}\n{"index": 1, "response": "\\"Fig\\""}',
        ),
    }
    responses = ["Plum\n{prompt}", '"Fig"']
    values = {
        "instruction": "Name {fruits}.",
        "conversation": "",
        "response": responses[0],
        **render_pair(*responses),
        "responses": render_list(responses),
    }
    for kind, (name, placeholders, key, rendered) in shown.items():
        example = f'Reply so: {{{{"REASONING": "[...]", "{key}": "<yours>"}}}}'
        (tmp_path / f"{name}_SYSTEM.prompt").write_text(f"You compare answers.\n{example}")
        (tmp_path / f"{name}_USER.prompt").write_text(f"[Question]\n{{prompt}}\n{placeholders}\n{example}")
        system, user = load_judge_template(kind, folder=tmp_path).format(values)
        reply = f'Reply so: {{"REASONING": "[...]", "{key}": "<yours>"}}'
        assert system.content == f"You compare answers.\n{reply}"
        assert user.content == f"[Question]\nName {{fruits}}.\n{rendered}\n{reply}"
    (tmp_path / "FLIP_USER.prompt").write_text("Read {response}, and guess {prompt}.")
    with pytest.raises(TemplateError, match=re.escape("'{prompt}'")):
        load_template(INFER, folder=tmp_path)


def test_missing_judge_templates(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="llmjudge_pairwise_ranking_USER"):
        load_judge_template(JudgeKind.PAIRWISE, folder=tmp_path)
    with pytest.raises(TemplateError, match="direct"):
        load_judge_template(JudgeKind.PAIRWISE, name="direct")


@given(st.lists(st.text(), min_size=1))
def test_no_text_inside_a_response_can_pass_for_another(texts: list[str]) -> None:
    assert len(render_list(texts).split("\n")) == len(texts)
    assert all(json.loads(render_text(text)) == text and "\n" not in render_text(text) for text in texts)
