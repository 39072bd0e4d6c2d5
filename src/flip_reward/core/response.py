"""Which part of a conversation is to be inferred, and which part of a response it is inferred from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flip_reward.core.conversation import Message
from flip_reward.core.score import Outcome
from flip_reward.core.thinking import strip_thinking, unwrap_answer
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
class Inference:
    """What is to be inferred, and what the model may see besides the response.

    Attributes:
        instruction: The original instruction, which the inferred one is compared with.
        context: Turns the model is shown, oldest first.
    """

    instruction: str
    context: tuple[Message, ...] = ()


def select_target(messages: tuple[Message, ...], target: Target = Target.LAST_USER) -> Inference:
    """Choose what is inferred from the response to `messages`.

    System and developer messages before the last user turn belong to the context too. Turns after it (a prefill, the
    results of tools) are not shown.

    Raises:
        ConversationError: The conversation has no message that could be the instruction.

    Example:
        >>> chat = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Name a fruit."))
        >>> select_target(chat).instruction
        'Name a fruit.'
        >>> [message.role for message in select_target(chat).context]
        ['user', 'assistant']
    """
    if target is Target.SYSTEM:
        return _select_system(messages)
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    if not users:
        raise ConversationError("the conversation has no user message")
    if target is Target.CONVERSATION:
        instruction = "\n\n".join(messages[index].content for index in users)
        context: tuple[Message, ...] = ()
    else:
        instruction = messages[users[-1]].content
        context = messages[: users[-1]]
    return Inference(instruction, context)


def _select_system(messages: tuple[Message, ...]) -> Inference:
    system = [message.content for message in messages if message.role in ("system", "developer")]
    if not system:
        raise ConversationError("the conversation has no system message", hint="use --target last-user")
    context = tuple(message for message in messages if message.role not in ("system", "developer"))
    return Inference("\n\n".join(system), context)


def visible_answer(response: str) -> str | Outcome:
    """Return the part of a response that a user would see, or why there is none.

    The thinking section, everything up to the last `</think>`, is taken off, and so are `<answer>` tags around what
    is left.

    Returns:
        The answer; `Outcome.UNFINISHED_THINKING` when thinking is opened and never closed; or
        `Outcome.EMPTY_RESPONSE` when nothing is left.

    Example:
        >>> visible_answer("<think>Fruits...</think><answer>Apples.</answer>")
        'Apples.'
        >>> visible_answer("<think>Fruits...")
        <Outcome.UNFINISHED_THINKING: 'unfinished_thinking'>
    """
    answer = strip_thinking(response)
    if answer is None:
        return Outcome.UNFINISHED_THINKING
    answer = unwrap_answer(answer)
    if answer is not response:
        answer = answer.strip()
    if not answer or answer.isspace():
        return Outcome.EMPTY_RESPONSE
    return answer
