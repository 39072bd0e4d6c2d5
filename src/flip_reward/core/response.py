"""What is compared: the part of a conversation that is inferred, and the visible part of a response."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from flip_reward.core.conversation import Message
from flip_reward.core.score import Outcome
from flip_reward.errors import ConversationError


class Target(StrEnum):
    """What the model infers from a response."""

    LAST_USER = "last-user"
    """The whole last user message; earlier turns are its context."""
    SYSTEM = "system"
    """The system prompt; the user's turns are its context."""
    CONVERSATION = "conversation"
    """All user turns, joined by blank lines; without context, which would give them away."""


@dataclass(frozen=True, slots=True)
class InferenceTarget:
    """The original instruction, which is inferred, and the turns that the model may see besides the response."""

    instruction: str
    context: tuple[Message, ...] = ()


def select_target(messages: tuple[Message, ...], target: Target = Target.LAST_USER) -> InferenceTarget:
    """Choose what is inferred from the response to `messages`.

    System and developer messages before the last user turn belong to the context too. Turns after it (a prefill, the
    results of tools) are not shown.
    """
    if target is Target.LAST_USER:
        for index in range(len(messages) - 1, -1, -1):
            if messages[index].role == "user":
                return InferenceTarget(messages[index].content, messages[:index])
        raise ConversationError("the conversation has no user message")
    roles = ("user",) if target is Target.CONVERSATION else ("system", "developer")
    instructions = [message.content for message in messages if message.role in roles]
    if not instructions:
        raise ConversationError(f"the conversation has no {roles[0]} message", hint="use --target last-user")
    others = tuple(message for message in messages if message.role not in roles)
    return InferenceTarget("\n\n".join(instructions), () if target is Target.CONVERSATION else others)


def visible_answer(response: str) -> str | Outcome:
    """Return the part of a response that a user would see, or why there is none.

    The thinking section, everything up to the last `</think>`, is taken off, and so are `<answer>` tags around what
    is left.

    Example:
        >>> visible_answer("<think>Fruits...</think><answer>Apples.</answer>")
        'Apples.'
        >>> visible_answer("<think>Fruits...")
        <Outcome.UNFINISHED_THINKING: 'unfinished_thinking'>
    """
    answer = response
    if "<" in response:
        rest = strip_thinking(response)
        if rest is None:
            return Outcome.UNFINISHED_THINKING
        answer = unwrap_answer(rest)
        if answer is not response:
            answer = answer.strip()
    if not answer or answer.isspace():
        return Outcome.EMPTY_RESPONSE
    return answer


THINKING_START = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
THINKING_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
"""Tags that open and close a thinking section."""
_ANSWER = re.compile(r"\s*<answer>(.*?)(?:</answer>\s*)?\Z", re.IGNORECASE | re.DOTALL)


def strip_thinking(text: str) -> str | None:
    """Take off everything up to the last closing thinking tag, also when no tag opened the section.

    None when thinking was opened and never closed.

    Example:
        >>> strip_thinking("<think>Fruits...</think>Apples.")
        'Apples.'
        >>> strip_thinking("<think>Fruits...") is None
        True
    """
    if "<" not in text:
        return text
    closings = list(THINKING_END.finditer(text))
    if closings:
        return text[closings[-1].end() :]
    return None if THINKING_START.match(text) else text


def unwrap_answer(text: str) -> str:
    """Take off `<answer>` tags around the whole text.

    Example:
        >>> unwrap_answer("<answer>Apples.</answer>")
        'Apples.'
    """
    wrapped = _ANSWER.match(text) if "<" in text else None
    return wrapped.group(1) if wrapped else text


def replace_lone_surrogates(text: str) -> str:
    r"""Replace halves of surrogate pairs, which JSON can spell but UTF-8 cannot, by the replacement character.

    Example:
        >>> replace_lone_surrogates("half \ud83d") == "half \ufffd"
        True
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
