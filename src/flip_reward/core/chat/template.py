"""A conversation that a chat template has turned into one text, taken apart again.

Trainers hand over what the policy saw and wrote as one text, with the marks of the turns in it. The marks are those
of the policy's own template where it was asked (`learning`), else of known families (`markup`).

A text counts as rendered when it begins with a turn, after special tokens if any, or when it begins and ends with
control tokens. Anything else is an instruction as it stands, whatever tokens it mentions. A rendered text that cannot
be read is an error, and so is an unknown control token at the edge of what the user says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from flip_reward.core.chat.markup import (
    ENDS,
    FAMILIES,
    Markup,
    OwnTemplate,
    drop_media,
    find_control_tokens,
    find_end,
    is_known_token,
    is_token,
    skip_special_tokens,
    strip_end_marks,
)
from flip_reward.core.conversation import Message, Role
from flip_reward.errors import ConversationError

_SHORTEST_OVERLAP = 16
_MOST_NAMED = 4
_LONGEST_PREFILL = 200
_SPELLED = tuple(one for one in FAMILIES if one.spelled)
_HINT = "name the policy's tokenizer: --policy-tokenizer NAME or FLIP_REWARD_POLICY_TOKENIZER"
_BEGUN = re.compile(r"(?:\s|</?think(?:ing)?>|\[/?THINK\]|◁/?think▷|<\|?[^\s<>|]{1,64}\|?>|thought|analysis|final)*")
"""What a template may write behind the mark of a response that is due."""
_OPENED = ("<think>", "<think>\n")
"""What prompts end with that begin a response in words, and have it think then."""
_R1_ZERO = "A conversation between User and Assistant"
_CALLED = re.compile(r"\s*(?:[A-Za-z_]{1,24}:?\s*)?(?:</?think(?:ing)?>\s*)*")
"""What may follow the last control token of a prompt: who is to respond, and what the response begins with."""


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """What a rendered prompt says."""

    messages: tuple[Message, ...]
    """The conversation up to the response."""
    prefill: str = ""
    """What the template has begun the response with, such as "<think>"."""


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A rendered conversation: the messages up to the response, and the response without end marks."""

    messages: tuple[Message, ...]
    response: str


@dataclass(frozen=True, slots=True)
class ChatReader:
    r"""Takes rendered conversations apart.

    Attributes:
        learnt: The marks of the policy's own template; without them, or where a text does not have them, the families
            that are known are tried.

    Example:
        >>> reader = ChatReader()
        >>> prompt = "<|im_start|>user\nName a fruit.<|im_end|>\n<|im_start|>assistant\n<think>\n"
        >>> reader.read_prompt(prompt)
        RenderedPrompt(messages=(Message(role='user', content='Name a fruit.'),), prefill='<think>\n')
        >>> reader.read_prompt("What does <|im_end|> mean?").messages
        (Message(role='user', content='What does <|im_end|> mean?'),)
    """

    learnt: Markup | None = None

    def read_prompt(self, text: str) -> RenderedPrompt:
        """Read a prompt as a chat template renders it. A text that is not rendered is one user message.

        Raises:
            ConversationError: The text is rendered, and its marks, or some of them, are unknown.
        """
        turns = self._read_turns(text)
        if turns is None:
            if _looks_rendered(text):
                raise _unknown("the prompt has the marks of an unknown chat template", text)
            return RenderedPrompt((Message("user", text),))
        if all(turn.role == "assistant" for turn in turns):
            raise _unknown("the prompt has no question that can be read", text)
        last = turns[-1]
        if len(turns) > 1 and last.role == "assistant" and not last.finished:
            return RenderedPrompt(_to_messages(turns[:-1]), last.raw)
        return RenderedPrompt(_to_messages(turns))

    def split_chat(self, text: str, *, trust_turns: bool = False) -> RenderedChat:
        """Split a rendered conversation into what came before the response, and the response.

        A response may hold the marks of turns, and so pass a conversation of its own making for the one it answers.
        With several assistant turns nobody can tell where it begins, unless the policy cannot write these marks: then
        `trust_turns` takes the last one.

        Raises:
            ConversationError: Nobody can tell where the response begins; or see `read_prompt`.
        """
        turns = self._read_turns(text, expected=True)
        if turns is None:
            problem = "the text has no turns of a known chat template, so the response cannot be found"
            raise _unknown(problem, text)
        starts = [number for number, turn in enumerate(turns) if turn.role == "assistant"]
        if not starts or not starts[0]:
            raise ConversationError("the text has no assistant turn that answers another turn")
        if len(starts) > 1 and not trust_turns:
            raise ConversationError(
                "the text has several assistant turns, so it cannot be told where the response begins",
                hint="send the prompt beside it, or trust the turns where the policy cannot write their marks",
            )
        first = starts[-1]
        return RenderedChat(_to_messages(turns[:first]), self.strip_end_marks(text[turns[first].start :]).lstrip())

    def strip_end_marks(self, text: str) -> str:
        """Take off the marks that end a turn or fill a batch, and the white space before them."""
        return strip_end_marks(text, _list_all_ends(self.learnt) if self.learnt else ENDS)

    def _read_turns(self, text: str, *, expected: bool = False) -> list[_Turn] | None:
        families = FAMILIES if "<" in text or "[" in text or "]" in text else _SPELLED
        if not expected and not any(
            one.header.search(text, max(len(text) - _LONGEST_PREFILL, 0)) for one in _SPELLED
        ):
            families = tuple(one for one in families if not one.spelled)  # no response is due: most texts are plain
        markups = (self.learnt, *families) if self.learnt else families
        return next((turns for one in markups if (turns := _read_turns(text, one, expected=expected))), None)


def split_query(query: str, prompt: str) -> str:
    """Take a rendered prompt off the beginning of a text, and return the response after it.

    The beginning of a long prompt may be missing from the text, since trainers truncate prompts on the left; and one
    of the two may have special tokens before it that the other lacks.

    Example:
        >>> split_query("Name a fruit. Apple.", "Name a fruit.")
        ' Apple.'
    """
    if query.startswith(prompt):
        return query[len(prompt) :]
    bare = prompt[skip_special_tokens(prompt, 0) :]
    start = skip_special_tokens(query, 0)
    if bare and query.startswith(bare, start):
        return query[start + len(bare) :]
    overlap = _find_overlap(prompt, query)
    if overlap < _SHORTEST_OVERLAP:
        raise ConversationError("the query does not begin with its prompt")
    return query[overlap:]


def _find_overlap(prompt: str, query: str) -> int:
    """Return the length of the longest end of a prompt that begins a query, in linear time (Knuth, Morris, Pratt)."""
    pattern = query[: len(prompt)]
    borders = [0] * len(pattern)
    length = 0
    for place in range(1, len(pattern)):
        while length and pattern[place] != pattern[length]:
            length = borders[length - 1]
        length += pattern[place] == pattern[length]
        borders[place] = length
    length = 0
    for letter in prompt:
        while length and (length == len(pattern) or pattern[length] != letter):
            length = borders[length - 1]
        length += bool(pattern) and pattern[length] == letter
    return length


@dataclass(frozen=True, slots=True)
class _Turn:
    role: Role
    content: str
    raw: str
    """All that stands behind the header."""
    start: int
    """Where that begins."""
    finished: bool
    """A mark ends it."""


def _read_turns(text: str, markup: Markup, *, expected: bool) -> list[_Turn] | None:
    """Read a text as one family renders it; None where it does not look like that."""
    headers = list(_find_headers(text, markup))
    if not headers:
        return None
    is_due = _is_due(text, headers[-1], markup)
    if not (expected or is_due or markup.own or markup.spelled) and _are_mentioned(text, headers, markup):
        return None
    turns = _read_lead(text[: headers[0].start()], markup, expected=expected, is_due=is_due)
    if turns is None:
        return None
    _append_turns(turns, text, headers, markup)
    if markup.spelled and not (_alternate(turns) and (expected or is_due)):
        return None
    if markup.own:
        return list(_take_off(turns, markup.own))
    for turn in turns:
        _check(turn, markup)
    return turns


def _append_turns(turns: list[_Turn], text: str, headers: Sequence[re.Match[str]], markup: Markup) -> None:
    """Append the turn behind each header."""
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        if turns and (header.lastgroup or "").startswith("user_after_system"):
            turns[-1] = replace(turns[-1], role="system")
        end = following.start() if following else len(text)
        if role := markup.role(header):
            turn = _make_turn(text[header.end() : end], header.end(), role, markup)
            if _is_same_turn(turns, turn):  # the header between the two is a word of the user
                start = turns.pop().start
                turn = _make_turn(text[start:end], start, role, markup)
            turns.append(turn)


def _is_same_turn(turns: Sequence[_Turn], turn: _Turn) -> bool:
    """Tell whether a turn goes on with the last one: both are the user's, and only the second is finished."""
    return bool(turns) and turn.role == turns[-1].role == "user" and turn.finished and not turns[-1].finished


def _is_due(text: str, header: re.Match[str], markup: Markup) -> bool:
    """Tell whether a response is due behind the last header: no more follows than what a template begins it with."""
    begun = _BEGUN.fullmatch(text, header.end()) or text.endswith(_OPENED, header.end())
    return bool(begun) and markup.role(header) == "assistant"


def _are_mentioned(text: str, headers: Sequence[re.Match[str]], markup: Markup) -> bool:
    """Tell whether the headers of a text are single tokens in a line, and nothing else of a template is there."""
    return (
        not text[: headers[0].start()].strip()
        and all(is_token(header[0].strip(" ")) for header in headers)
        and not any(end in text for end in markup.ends)
    )


def _read_lead(text: str, markup: Markup, *, expected: bool, is_due: bool) -> list[_Turn] | None:
    """Read what stands before the first header: nothing, or one turn; None where it may not stand there."""
    begin = skip_special_tokens(text, 0, markup.own.specials if markup.own else ())
    if begin == len(text) or _is_cut_off(text, markup):
        return []
    is_clear = expected or bool(text[:begin].strip()) or text.startswith(_R1_ZERO, begin)
    if markup.lead is None or not (is_clear or (is_due and not markup.lead_after_token)):
        return None
    return [_make_turn(text[begin:], begin, markup.lead, markup)]


def _find_headers(text: str, markup: Markup) -> Iterator[re.Match[str]]:
    """Find where turns begin; of several messages of one response only the first."""
    earlier: Role | None = None
    for header in markup.header.finditer(text):
        role = markup.role(header)
        if not (markup.channels and role == earlier == "assistant"):
            yield header
        earlier = role


def _is_cut_off(text: str, markup: Markup) -> bool:
    """Tell whether what stands before the first header is the rest of a turn."""
    ends = tuple(end.strip() for end in markup.ends if not end.isspace())
    return markup.lead is None and not markup.spelled and text.rstrip().endswith(ends)


def _alternate(turns: Sequence[_Turn]) -> bool:
    spoken = [turn.role for turn in turns if turn.role != "system"]
    return spoken[:1] == ["user"] and all(one != other for one, other in pairwise(spoken))


def _make_turn(raw: str, start: int, role: Role, markup: Markup) -> _Turn:
    finished, content = _finish(raw, markup)
    if role == "assistant" and markup.channels:
        content = content.rpartition("<|message|>")[2]
    elif role == "user":
        content = drop_media(content)
        if content.startswith("<tool_response>") and content.endswith("</tool_response>"):
            role = "tool"  # so do the templates of Qwen hand over what a tool answered
    return _Turn(role, content, raw, start, finished)


def _finish(raw: str, markup: Markup) -> tuple[bool, str]:
    """Tell whether a mark ends a turn, and return what was said before it."""
    if markup.own:
        end = next((end for end in markup.ends if raw.endswith(end)), "")
        if end:
            return not end.isspace(), raw[: -len(end)]
        stop = find_end(raw, _list_all_ends(markup))
        return stop < len(raw), raw[:stop]
    inner = raw[: find_end(raw, _list_other_ends(markup))].rstrip()
    end = next((end for end in markup.ends if inner.endswith(end)), "")
    said = inner[: len(inner) - len(end)].strip()
    return bool(end) or len(inner) < len(raw.rstrip()), said


@cache
def _list_all_ends(markup: Markup) -> tuple[str, ...]:
    own = (*markup.ends, *(markup.own.specials if markup.own else ()))
    return tuple(filter(None, dict.fromkeys(end.strip() for end in (*own, *ENDS))))


@cache
def _list_other_ends(markup: Markup) -> tuple[str, ...]:
    return tuple(end for end in ENDS if end not in markup.ends)


def _take_off(turns: Sequence[_Turn], own: OwnTemplate) -> Iterator[_Turn]:
    """Leave out what a template wrote by itself."""
    questions = [number for number, turn in enumerate(turns) if turn.role == "user"] or [len(turns)]
    for number, turn in enumerate(turns):
        content = turn.content
        if turn.role in ("system", "developer") and number < questions[0]:
            if any(one.fullmatch(content) for one in own.injected):
                continue
            said = own.system.fullmatch(content) if own.system else None
            yield replace(turn, role="system", content=said[1]) if said else turn
        elif number == questions[-1]:
            yield replace(turn, content=content.removeprefix(own.question))
        else:
            yield replace(turn, content=content.removeprefix(own.reply)) if turn.role == "assistant" else turn


def _check(turn: _Turn, markup: Markup) -> None:
    """Refuse marks of unknown turns, and unknown tokens at the edges of what a user says.

    A token in the midst of words is what somebody wrote about it.
    """
    content = turn.raw if markup.channels else turn.content
    tokens = list(find_control_tokens(content))
    for token in tokens if turn.role == "user" else ():
        at_edge = token.start() == 0 or token.end() == len(turn.content)
        if at_edge and not is_known_token(token[0]):
            raise _unknown("the user's message has an unknown control token", token[0])
    for token, following in pairwise(tokens):
        beside, called = content[token.end() : following.start()], content[following.end() : following.end() + 1]
        if token[0] not in markup.ends or beside.strip() or not called.isalnum() or "tool" in following[0]:
            continue
        if not markup.header.match(content, following.start()):
            raise _unknown(f"the {turn.role}'s message has the marks of an unknown turn", token[0] + following[0])


def _looks_rendered(text: str) -> bool:
    """Tell whether a text that no family renders begins and ends with control tokens, and has words between them."""
    last = None
    for last in find_control_tokens(text):  # noqa: B007 - the last one is wanted
        pass
    if last is None or not _CALLED.fullmatch(text, last.end()):
        return False
    begin = skip_special_tokens(text, 0)
    return bool(text[:begin].strip()) and bool(text[begin : last.start()].strip())


def _unknown(problem: str, text: str) -> ConversationError:
    tokens = list(dict.fromkeys(found[0] for found in find_control_tokens(text)))
    named = ", ".join(tokens[:_MOST_NAMED]) + (", ..." if len(tokens) > _MOST_NAMED else "")
    return ConversationError(f"{problem}: {named}" if named else problem, hint=_HINT)


def _to_messages(turns: Sequence[_Turn]) -> tuple[Message, ...]:
    messages = tuple(Message(turn.role, turn.content) for turn in turns)
    content = messages[0].content if messages else ""
    end = content.find("\n<</SYS>>")
    if end < 0 or not content.startswith("<<SYS>>\n"):
        return messages
    rules, question = content[len("<<SYS>>\n") : end], content[end + len("\n<</SYS>>") :].lstrip()
    return (Message("system", rules), Message("user", question), *messages[1:])
