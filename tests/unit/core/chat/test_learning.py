from __future__ import annotations

import datetime as dt
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flip_reward.core.chat.learning import learn_markup
from flip_reward.core.chat.template import ChatReader
from flip_reward.core.conversation import Message
from flip_reward.errors import ConversationError
from tests.chat_templates import GEMMA, SPECIALS, TEMPLATES, make_render, render_prompt

_WORDS = st.text("ab3 .,!?-*{}\n😀ü水", min_size=1, max_size=30).map(str.strip).filter(bool)


@cache
def learn(template: str) -> ChatReader:
    return ChatReader(learn_markup(make_render(template), SPECIALS))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message("system", draw(_WORDS))] if draw(st.booleans()) else []
    texts = draw(st.lists(_WORDS, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2))
    messages += [Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
    return tuple(messages)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=30, deadline=None)
@given(messages=conversations())
def test_what_a_learnt_template_renders_is_read_back(name: str, messages: tuple[Message, ...]) -> None:
    render = make_render(TEMPLATES[name])
    rendered = render(messages, due=True)
    if rendered is None:  # the template refuses a system prompt
        messages = messages[1:]
        rendered = render(messages, due=True)
    assert rendered is not None
    assert learn(TEMPLATES[name]).read_prompt(rendered).messages == messages


@pytest.mark.parametrize(
    ("name", "prefill"),
    [
        ("chatml", ""),
        ("thinking opened", "<think>\n"),
        ("thinking closed", "<think>\n\n</think>\n\n"),
        ("gemma 4", "<|channel>thought\n<channel|>"),
        ("deepseek", "<think>"),
        ("gpt-oss", ""),
        ("command r7b", "<|START_RESPONSE|>"),
        ("mistral 7", ""),
    ],
)
def test_what_the_template_begins_the_response_with_is_no_mark(name: str, prefill: str) -> None:
    rendered = render_prompt(TEMPLATES[name], Message("user", "Name a fruit."))
    assert learn(TEMPLATES[name]).read_prompt(rendered).prefill == prefill


@pytest.mark.parametrize("name", ["llama 3", "metadata", "gpt-oss"])
def test_a_template_that_tells_the_date_is_known_on_another_day(name: str) -> None:
    messages = (Message("system", "Be brief."), Message("user", "Name a fruit."))
    for said in (messages, messages[1:]):
        rendered = render_prompt(TEMPLATES[name], *said)
        today = dt.datetime.now(dt.UTC)
        for form in ("%d %B %Y", "%d %b %Y", "%Y-%m-%d"):
            rendered = rendered.replace(today.strftime(form), dt.datetime(2027, 5, 3, tzinfo=dt.UTC).strftime(form))
        assert not re.search(today.strftime("%Y|%b"), rendered)
        assert learn(TEMPLATES[name]).read_prompt(rendered).messages == said


def test_a_system_prompt_without_a_mark_stays_in_the_question() -> None:
    rendered = render_prompt(GEMMA, Message("system", "Be brief."), Message("user", "Name a fruit."))
    assert learn(GEMMA).read_prompt(rendered).messages == (Message("user", "Be brief.\n\nName a fruit."),)


@pytest.mark.parametrize("start", ["", "<s>", "<s><s>", "<pad><pad><s>", "<|begin_of_text|>"])
def test_special_tokens_before_the_first_mark(start: str) -> None:
    for name in ("llama 2", "llama 3", "deepseek", "chatml"):
        rendered = render_prompt(TEMPLATES[name], Message("user", "Name a fruit."))
        bare = rendered.removeprefix("<s>").removeprefix("<｜begin▁of▁sentence｜>")
        assert learn(TEMPLATES[name]).read_prompt(start + bare).messages == (Message("user", "Name a fruit."),)


def test_turns_of_tools_are_read_by_the_marks_of_the_user() -> None:
    messages = (Message("user", "How warm?"), Message("assistant", "call()"), Message("tool", "7"))
    rendered = render_prompt(TEMPLATES["chatml"], *messages)
    assert learn(TEMPLATES["chatml"]).read_prompt(rendered).messages == messages


def test_what_it_says_of_unknown_tokens_is_text_for_a_template_that_is_known() -> None:
    question = "<|nobody|> is a token of mine <|nobody|>"
    rendered = render_prompt(TEMPLATES["chatml"], Message("user", question))
    with pytest.raises(ConversationError, match="nobody"):
        ChatReader().read_prompt(rendered)
    assert learn(TEMPLATES["chatml"]).read_prompt(rendered).messages == (Message("user", question),)


def test_a_text_of_another_family_is_still_read() -> None:
    text = "<start_of_turn>user\nName a fruit.<end_of_turn>\n<start_of_turn>model\n"
    assert learn(TEMPLATES["chatml"]).read_prompt(text).messages == (Message("user", "Name a fruit."),)


def test_whole_conversations_are_split() -> None:
    reader = learn(TEMPLATES["nobody's"])
    rendered = make_render(TEMPLATES["nobody's"])([Message("user", "Hi"), Message("assistant", "Hello!")], due=False)
    assert rendered is not None
    chat = reader.split_chat(rendered + "</s><pad>")
    assert (chat.messages, chat.response) == ((Message("user", "Hi"),), "Hello!")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}\n{% endfor %}",
        "{{ messages[-1].content }}",
        "<|user|>{{ messages[0].content }}<|assistant|>",
        "{{ raise_exception('never') }}",
    ],
)
def test_a_template_without_marks_cannot_be_learnt(template: str) -> None:
    with pytest.raises(ConversationError):
        learn_markup(make_render(template), SPECIALS)
