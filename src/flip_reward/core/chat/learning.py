"""The marks of one chat template, learnt by asking it to render a conversation of sentinels.

What stands before, between and behind the sentinels is the template's. What it wrote by itself (a default system
prompt, a date) is known by reading its own texts back, and nothing is learnt that does not read back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Protocol

from flip_reward.core.chat.markup import Markup, OwnTemplate, find_control_tokens
from flip_reward.core.chat.template import ChatReader
from flip_reward.core.chat.thinking import THINKING, fold
from flip_reward.core.conversation import Message
from flip_reward.errors import ConversationError


class Render(Protocol):
    """A chat template."""

    def __call__(self, messages: Sequence[Message], *, due: bool) -> str | None:
        """Render messages, with what comes before a reply where one is due; None where the template refuses them."""


_RULE = Message("system", "Qruleqx")
_CHAT = (
    Message("user", "Qfirstqx"),
    Message("assistant", "Qreplyqx"),
    Message("user", "Qsecondqx"),
    Message("assistant", "Qanswerqx"),
    Message("user", "Qthirdqx"),
)
_OTHERS = ("system", "developer", "tool", "ipython", "observation", "function")
_OPENINGS = tuple(mark for one in THINKING if one.alone for mark in (*one.starts, *one.ends))
"""What a template begins a response with: it belongs to the response, and not to the mark before it."""
_DATES = re.compile(
    r"(\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}\b|\b\d+\b)"
)


def learn_markup(render: Render, specials: Sequence[str] = ()) -> Markup:
    r"""Learn how a chat template marks turns.

    Args:
        render: Renders messages with it.
        specials: The special tokens of its tokenizer, such as "<s>".

    Raises:
        ConversationError: It cannot be learnt: it refuses a conversation, or its turns have no marks.

    Example:
        >>> def render(messages, *, due):
        ...     return "".join(f"({one.role}) {one.content};" for one in messages) + "(assistant) " * due
        >>> ChatReader(learn_markup(render)).read_prompt("(user) Name a fruit.;(assistant) ").messages
        (Message(role='user', content='Name a fruit.'),)
    """
    marks = _Marks.of(render, tuple(filter(None, specials)))
    markup = marks.to_markup()
    with_default = _read(markup, render(_CHAT[:1], due=True)) or ()
    injected = [message for message in with_default if message.role in ("system", "developer")]
    system = None
    for message in _read(markup, render((_RULE, *_CHAT[:1]), due=True)) or ():
        before, found, after = message.content.partition(_RULE.content)
        if message.role == "user":
            break
        if not found:
            injected.append(message)
        elif before or after or message.role != "system":
            system = re.compile(f"{_tolerate_dates(before)}(.*){_tolerate_dates(after)}", re.DOTALL)
    own = OwnTemplate(
        marks.specials,
        tuple(re.compile(_tolerate_dates(message.content)) for message in injected),
        system,
        marks.question,
        marks.reply,
    )
    markup = replace(markup, own=own)
    for messages in (_CHAT[:1], _CHAT[:3], _CHAT):
        if _read(markup, render(messages, due=True)) != messages:
            raise ConversationError("its turns have no marks by which they can be told apart")
    return markup


def _read(markup: Markup, text: str | None) -> tuple[Message, ...] | None:
    return None if text is None else ChatReader(markup).read_prompt(text).messages


@dataclass(frozen=True, slots=True)
class _SystemMarks:
    """What stands around a system prompt, where its marks are not like the user's."""

    begin: str | None = None
    """Begins it; empty where nothing does, and None where the user's mark tells, or there is no system prompt."""
    end: str = ""
    user: str = ""
    """Begins the question behind it, where that is not the user's mark."""

    @classmethod
    def of(cls, text: str | None, user: str, question: str, specials: tuple[str, ...]) -> _SystemMarks:
        """Read them off a conversation of a system prompt and a question."""
        if text is None or _RULE.content not in text:
            return cls()
        before, _, rest = text.partition(_RULE.content)
        after = rest.partition(_CHAT[0].content)[0].removesuffix(question)
        begin = None
        framed = [mark for role in ("system", "developer") if (mark := _frame(user, role))]
        if not any(mark in before for mark in framed):
            bare = _without(before, specials)
            tokens = _leading_tokens(bare)
            begin = tokens if tokens and not _without(user, specials).startswith(tokens) else bare and before
        if after.endswith(user):
            end, own_user = after.removesuffix(user), ""
        else:
            end, own_user = "", after
        if begin is not None and begin.endswith(user):  # it begins as a question does, and may be a part of one
            return cls(None, end, own_user if next(find_control_tokens(own_user), None) else "")
        return cls(begin, end, own_user)


@dataclass(frozen=True, slots=True)
class _Marks:
    """What stands around the sentinels."""

    user: str
    """Begins a question."""
    assistant: str
    """Begins a reply."""
    ends: tuple[str, ...]
    reply: str
    question: str
    system: _SystemMarks
    specials: tuple[str, ...]

    @classmethod
    def of(cls, render: Render, specials: tuple[str, ...]) -> _Marks:
        before, to_reply, to_user, _, to_last, to_due = _split(render(_CHAT, due=True), _CHAT)
        open_end = _tail(render(_CHAT, due=False), _CHAT[-1])
        closed_end = _tail(render(_CHAT[:2], due=False), _CHAT[1])
        user = _cut_begun_token(before, _common(before[::-1], to_user[::-1])[::-1], specials)
        for end in sorted({open_end, closed_end}, key=len, reverse=True):
            user = user.removeprefix(end) if user != end else user
        replying, due = _cut_opening(to_reply), _cut_opening(to_due)
        if to_due == open_end and replying.removeprefix(open_end).strip():
            due = replying  # the template has no mark for a reply that is due
        whole = _cut_open_token(_common(replying, due), replying)
        assistant = whole.removeprefix(open_end)
        ends = {closed_end, to_user.removesuffix(user)}
        if assistant.strip():
            ends |= {open_end, *(open_end.replace("user", role) for role in _OTHERS)}
        else:
            assistant = whole
        if not user.strip() or not assistant.strip():
            raise ConversationError("its turns have no marks by which they can be told apart")
        question = to_last.removeprefix(to_user) if to_last.startswith(to_user) else ""
        system = _SystemMarks.of(render((_RULE, _CHAT[0]), due=True), user, question, specials)
        if system.end and not system.end.endswith(tuple(filter(None, ends))):
            ends.add(system.end)
        kept = tuple(sorted(filter(None, ends), key=len, reverse=True))
        return cls(user, assistant, kept, to_reply[len(whole) :], question, system, specials)

    def to_markup(self) -> Markup:
        headers = {self.user: "user", self.assistant: "assistant"}
        for role in _OTHERS:
            if framed := _frame(self.user, role):
                headers.setdefault(framed, "tool" if role not in ("system", "developer") else role)
        if self.system.begin:
            headers.setdefault(self.system.begin, "system")
        if self.system.user:
            headers.setdefault(self.system.user, "user" if self.system.begin else "user_after_system")
        longest_first = sorted(headers.items(), key=lambda item: len(item[0]), reverse=True)
        parts = [f"(?P<{role}{n}>{self._to_pattern(mark)})" for n, (mark, role) in enumerate(longest_first)]
        return Markup(
            re.compile("|".join(parts)),
            self.ends,
            lead="system" if self.system.begin == "" else None,
            channels="<|channel|>" in self.reply,
            own=OwnTemplate(self.specials, reply=self.reply, question=self.question),
        )

    def _to_pattern(self, mark: str) -> str:
        """Turn a mark into a pattern in which dates may change, and a special token at its beginning be missing."""
        bare = _without(mark, self.specials)
        if bare == mark or not next(find_control_tokens(bare), None):
            return _tolerate_dates(mark)
        return f"(?:{re.escape(mark.removesuffix(bare))})?{_tolerate_dates(bare)}"


def _split(text: str | None, messages: Sequence[Message]) -> list[str]:
    """Return what stands before, between and behind messages."""
    if text is None:
        raise ConversationError("it refuses a conversation of questions and replies")
    parts = []
    for message in messages:
        part, found, text = text.partition(message.content)
        if not found:
            raise ConversationError("it does not show every turn of a conversation")
        parts.append(part)
    return [*parts, text]


def _tail(text: str | None, message: Message) -> str:
    return text.rpartition(message.content)[2] if text is not None and message.content in text else ""


def _common(one: str, other: str) -> str:
    """Return what two texts begin with."""
    return one[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))]


def _frame(user: str, role: str) -> str:
    """Return the mark of another role by that of the user; empty where the user's does not name the role."""
    for name, other in (("user", role), ("User", role.capitalize()), ("USER", role.upper())):
        before, found, after = user.partition(name)
        if found and before.strip() and next(find_control_tokens(user), None):
            return before + other + after
    return ""


def _cut_opening(text: str) -> str:
    folded = fold(text)
    return text[: min((place for one in _OPENINGS if (place := folded.find(one)) >= 0), default=len(text))]


def _cut_begun_token(whole: str, end: str, specials: Sequence[str]) -> str:
    """Return the end of a text without the rest of a token that begins before it."""
    start = len(whole) - len(end)
    for begin, stop in _list_tokens(whole, specials):
        if begin < start < stop:
            return whole[stop:]
    return end


def _cut_open_token(beginning: str, whole: str) -> str:
    """Return the beginning of a text without the part of a token that ends behind it."""
    for begin, stop in _list_tokens(whole, ()):
        if begin < len(beginning) < stop:
            return whole[:begin]
    return beginning


def _list_tokens(text: str, specials: Sequence[str]) -> list[tuple[int, int]]:
    spans = [token.span() for token in find_control_tokens(text)]
    return spans + [found.span() for one in specials for found in re.finditer(re.escape(one), text)]


def _leading_tokens(text: str) -> str:
    """Return the control tokens that a text begins with."""
    end = 0
    for token in find_control_tokens(text):
        if token.start() != end:
            break
        end = token.end()
    return text[:end]


def _without(text: str, specials: Sequence[str]) -> str:
    """Take special tokens off the beginning of a text."""
    while special := next((one for one in specials if text.startswith(one)), ""):
        text = text[len(special) :]
    return text


def _tolerate_dates(text: str) -> str:
    """Return a pattern for a text in which numbers, and the names of months and days, may be others."""
    parts = _DATES.split(text)
    return "".join(r"\w+" if number % 2 else re.escape(part) for number, part in enumerate(parts))
