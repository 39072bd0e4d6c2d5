"""A conversation that a chat template has turned into one text, taken apart again.

Trainers hand over what the policy saw and wrote as one text, with the marks of the turns in it. The marks tell which
template it was. A template that is not recognised gives None; nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flip_reward.core.conversation import Message, Role
from flip_reward.errors import ConversationError

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "ipython": "tool",
    "SYSTEM_PROMPT": "system",
    "INST": "user",
    "/INST": "assistant",
    "User": "user",
    "Assistant": "assistant",
}


@dataclass(frozen=True, slots=True)
class _Markup:
    """How one family of templates marks turns."""

    header: re.Pattern[str]
    """Begins a turn; its group is the role."""
    system_first: bool = False
    """Text before the first header is the system prompt."""


_MARKUPS = (
    _Markup(re.compile(r"<\|im_start\|>(\w+)(?:\n|<\|im_sep\|>)")),  # ChatML: Qwen, SmolLM, Phi-4
    _Markup(re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n")),  # Llama 3
    _Markup(re.compile(r"<\|header_start\|>(\w+)<\|header_end\|>\n\n")),  # Llama 4
    _Markup(re.compile(r"<start_of_turn>(\w+)\n")),  # Gemma
    _Markup(re.compile(r"<\|start_of_role\|>(\w+)<\|end_of_role\|>")),  # Granite
    _Markup(re.compile(r"<\|(system|user|assistant|observation|tool)\|>\n?")),  # Phi-3, Zephyr, Tülu, GLM-4
    _Markup(re.compile(r"<｜(User|Assistant)｜>"), system_first=True),  # DeepSeek
    _Markup(re.compile(r"\[(SYSTEM_PROMPT|INST|/INST)\] ?")),  # Mistral, Llama 2
)
_END_MARK = (
    r"<\|im_end\|>|<\|eot_id\|>|<\|eom_id\|>|<\|eot\|>|<\|end_of_text\|>|<\|endoftext\|>|<\|end\|>|<end_of_turn>"
    r"|<eos>|<pad>|</s>|<｜end▁of▁sentence｜>|\[/SYSTEM_PROMPT\]"
)
_END = re.compile(rf"\s*(?:(?:{_END_MARK})\s*)+\Z")
_BEGIN = re.compile(
    r"\A\s*(?:(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<\|im_end\|>|<pad>|<｜begin▁of▁sentence｜>"
    r"|\[gMASK\]|<sop>)\s*)*"
)
_SHORTEST_OVERLAP = 16
_LLAMA_2_SYSTEM = re.compile(r"\A<<SYS>>\n(.*?)\n<</SYS>>\s*", re.DOTALL)


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


def strip_end_marks(text: str) -> str:
    r"""Take off the marks that end a turn or fill a batch, and the white space before them."""
    return _END.sub("", text)


def read_prompt(text: str) -> RenderedPrompt:
    r"""Read a prompt as a chat template renders it. A text without marks is one user message.

    Example:
        >>> prompt = "<|im_start|>user\nName a fruit.<|im_end|>\n<|im_start|>assistant\n<think>\n"
        >>> read_prompt(prompt)
        RenderedPrompt(messages=(Message(role='user', content='Name a fruit.'),), prefill='<think>\n')
        >>> read_prompt("Name a fruit.").messages
        (Message(role='user', content='Name a fruit.'),)
    """
    turns = _read_turns(text)
    if turns is None:
        return RenderedPrompt((Message("user", text),))
    if len(turns) > 1 and turns[-1].message.role == "assistant" and not _END.search(turns[-1].raw):
        return RenderedPrompt(_messages(turns[:-1]), turns[-1].raw.lstrip())
    return RenderedPrompt(_messages(turns))


def split_chat(text: str, *, trust_turns: bool = False) -> RenderedChat:
    r"""Split a rendered conversation into what came before the response, and the response.

    A response may hold the marks of turns, and so pass a conversation of its own making for the one it answers. With
    several assistant turns nobody can tell where it begins, unless the policy cannot write these marks: then
    `trust_turns` takes the last one.
    """
    turns = _read_turns(text)
    if turns is None:
        raise ConversationError("the text has no turns of a known chat template, so the response cannot be found")
    starts = [number for number, turn in enumerate(turns) if turn.message.role == "assistant"]
    if not starts or not starts[0]:
        raise ConversationError("the text has no assistant turn that answers another turn")
    if len(starts) > 1 and not trust_turns:
        raise ConversationError(
            "the text has several assistant turns, so it cannot be told where the response begins",
            hint="send the prompt beside it, or trust the turns where the policy cannot write their marks",
        )
    first = starts[-1]
    return RenderedChat(_messages(turns[:first]), strip_end_marks(text[turns[first].start :]).lstrip())


def split_query(query: str, prompt: str) -> str:
    """Take a rendered prompt off the beginning of a text, and return the response after it.

    The beginning of a long prompt may be missing from the text, since trainers truncate prompts on the left.

    Example:
        >>> split_query("Name a fruit. Apple.", "Name a fruit.")
        ' Apple.'
    """
    if query.startswith(prompt):
        return query[len(prompt) :]
    start = prompt.find(query[:_SHORTEST_OVERLAP]) if len(query) >= _SHORTEST_OVERLAP else -1
    while start >= 0:
        rest = prompt[start:]
        if query.startswith(rest):
            return query[len(rest) :]
        start = prompt.find(query[:_SHORTEST_OVERLAP], start + 1)
    raise ConversationError("the query does not begin with its prompt")


@dataclass(frozen=True, slots=True)
class _Turn:
    message: Message
    raw: str
    start: int


def _read_turns(text: str) -> list[_Turn] | None:
    begin = _BEGIN.match(text)
    offset = begin.end() if begin else 0
    for markup in _MARKUPS:
        headers = list(markup.header.finditer(text, offset))
        if not headers:
            continue
        before = text[offset : headers[0].start()].strip()
        if (before and not markup.system_first) or any(header[1] not in _ROLES for header in headers):
            continue
        turns = [_Turn(Message("system", before), before, offset)] if before else []
        for number, header in enumerate(headers):
            end = headers[number + 1].start() if number + 1 < len(headers) else len(text)
            raw = text[header.end() : end]
            turns.append(_Turn(Message(_ROLES[header[1]], strip_end_marks(raw).strip()), raw, header.end()))
        return turns
    return None


def _messages(turns: list[_Turn]) -> tuple[Message, ...]:
    messages = tuple(turn.message for turn in turns)
    system = _LLAMA_2_SYSTEM.match(messages[0].content)
    if system is None:
        return messages
    return (Message("system", system[1]), Message("user", messages[0].content[system.end() :]), *messages[1:])
