"""What is compared: the part of a conversation that is inferred, and the visible part of a response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from flip_reward.core.chat.markup import skip_special_tokens, strip_end_marks
from flip_reward.core.chat.thinking import find_answer, fold, is_unmarked
from flip_reward.core.conversation import Message
from flip_reward.core.copying import Copying
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


@dataclass(slots=True)
class InferenceTarget:
    """The original instruction, which is inferred, and the turns that the model may see besides the response."""

    instruction: str
    context: tuple[Message, ...] = ()
    _copying: Copying | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def copying(self) -> Copying:
        """The instruction, prepared once to find copies of it in all the responses of its group."""
        if self._copying is None:
            self._copying = Copying.of(self.instruction)
        return self._copying


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


def visible_answer(response: str, *, marks: Sequence[tuple[str, str]] = (), opened: bool = False) -> str | Outcome:
    """Return the part of a response that a user would see, or why there is none.

    The thinking, in the marks of any model of `core.chat.thinking.THINKING`, is taken off, and so are tags around
    what is left, such as `<answer>`, and the marks that end a turn.

    Args:
        response: What the policy wrote.
        marks: Opening and closing marks of thinking in other models.
        opened: The policy's chat template opens the thinking: without a closing mark there is no answer.

    Example:
        >>> visible_answer("<think>Fruits...</think><answer>Apples.</answer>")
        'Apples.'
        >>> visible_answer("<think>Fruits...")
        <Outcome.UNFINISHED_THINKING: 'unfinished_thinking'>
    """
    if not (marks or opened) and is_unmarked(response):
        return response if response and not response.isspace() else Outcome.EMPTY_RESPONSE
    found = find_answer(response, marks=marks, opened=opened, reopens=True)
    if found is None:
        return Outcome.UNFINISHED_THINKING
    answer = strip_end_marks(response[found.start : found.stop])
    answer = unwrap_answer(answer, _AFTER_THINKING if found.after_thinking else _ANSWER)
    if answer != response:
        answer = answer.strip()
    if skip_special_tokens(answer, 0) == len(answer):
        return Outcome.EMPTY_RESPONSE
    return answer


_ANSWER = ("answer", "solution")
_AFTER_THINKING = (*_ANSWER, "response", "output")
"""Tags around an answer; the latter are also those of XML, so they count only where a model has thought."""


def strip_thinking(text: str) -> str | None:
    """Take off the thinking, also when no mark opened it, and end marks; None when it was opened and never closed.

    Example:
        >>> strip_thinking("<think>Fruits...</think>Apples.")
        'Apples.'
        >>> strip_thinking("<think>Fruits...") is None
        True
    """
    found = find_answer(text)
    return None if found is None else strip_end_marks(text[found.start : found.stop])


def unwrap_answer(text: str, tags: Sequence[str] = _ANSWER) -> str:
    """Take off tags around the whole text; the closing one may be missing.

    Example:
        >>> unwrap_answer("<answer>Apples.</answer>")
        'Apples.'
    """
    body = text.lstrip()
    for tag in tags if body.startswith("<") else ():
        if body[: len(tag) + 2].lower() == f"<{tag}>":
            inner = body[len(tag) + 2 :]
            end = fold(inner).rfind(f"</{tag}>")
            return inner if end < 0 else inner[:end] + inner[end + len(tag) + 3 :].rstrip()
    return text


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
