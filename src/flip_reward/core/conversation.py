"""`Message` and `Group`: what is scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

from flip_reward.errors import ConversationError

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: frozenset[str] = frozenset(get_args(Role))
_TEXTS = ("text", "input_text", "output_text")
"""The kinds of parts that are text, in the chat and the responses API."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. The content is data: nothing inside it changes who speaks.

    Attributes:
        role: Who speaks: "system", "developer", "user", "assistant" or "tool".
        content: The text, as it is.

    Raises:
        ConversationError: The role is unknown.

    Example:
        >>> Group.of([Message("system", "Be brief."), Message("user", "Name a fruit.")], "Pear.").responses
        ('Pear.',)
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ConversationError(f"unknown role {self.role!r:.40}", hint="roles are " + ", ".join(get_args(Role)))


@dataclass(frozen=True, slots=True)
class Group:
    """One conversation and its candidate responses: the unit of everything that is scored.

    A row of a data set is a group of one, best-of-N a group of N, a GRPO step a list of groups.

    Attributes:
        messages: The conversation up to the response, oldest first; it ends with the turn that is answered.
        responses: The candidates, in the caller's order.
        id: Names the group in records; may be empty.

    Example:
        >>> group = Group.of("Name three fruits.", ["Apples, pears and plums.", "It rains."])
        >>> group.messages
        (Message(role='user', content='Name three fruits.'),)
        >>> len(group.responses)
        2
    """

    messages: tuple[Message, ...]
    responses: tuple[str, ...]
    id: str = ""

    def __post_init__(self) -> None:
        if not self.messages:
            raise ConversationError("a group needs at least one message")
        if not self.responses:
            raise ConversationError("a group needs at least one response")

    @classmethod
    def of(
        cls,
        prompt: str | Sequence[Message | Mapping[str, object]],
        responses: str | Iterable[str],
        *,
        id: str = "",  # noqa: A002 - the field's own name
    ) -> Self:
        """Build a group from texts or messages.

        Args:
            prompt: The instruction as text, or the conversation as messages or `{"role", "content"}` mappings.
            responses: One response or several.
            id: Names the group in records.

        Raises:
            ConversationError: A message lacks a role or content, there is no message or no response, or a response is
                something else than text.
        """
        messages = (Message("user", _plain(prompt)),) if isinstance(prompt, str) else _messages(prompt)
        return cls(messages, _responses(responses), id)

    def only(self, indices: Sequence[int]) -> Self:
        """Return the same conversation with the responses at `indices`, in that order."""
        return replace(self, responses=tuple(self.responses[index] for index in indices))


def _plain(text: str) -> str:
    """Return a text of a subclass, such as numpy's, as one of Python's own."""
    return str.__str__(text)


def _messages(prompt: object) -> tuple[Message, ...]:
    if isinstance(prompt, bytes | Mapping) or not isinstance(prompt, Iterable):
        raise ConversationError(f"the prompt must be text or a list of messages, not {_name(prompt)}")
    return tuple(map(_message, prompt))


def _responses(responses: object) -> tuple[str, ...]:
    if isinstance(responses, str):
        return (_plain(responses),)
    if not isinstance(responses, list | tuple) and (
        isinstance(responses, bytes | Mapping) or not isinstance(responses, Iterable)
    ):
        raise ConversationError(f"the response must be text, not {_name(responses)}")
    texts = tuple(responses)
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise ConversationError(f"response {number} is {_name(text)}, not text")
    return tuple(map(_plain, texts))


def _name(value: object) -> str:
    if isinstance(value, float) and value != value:
        return "NaN"
    return "None" if value is None else f"of type {type(value).__name__}"


def _message(value: Message | Mapping[str, object]) -> Message:
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise ConversationError(f"a message must be an object with role and content, not {type(value).__name__}")
    role = value.get("role")
    if not isinstance(role, str):
        raise ConversationError("a message has no role")
    content = read_content(value)
    if content is None:
        raise ConversationError(f"the {role} message has no text content")
    return Message(role, content)  # type: ignore[arg-type]  # checked by Message itself


def read_content(message: Mapping[str, object]) -> str | None:
    """Return the text of a message in the OpenAI format, or None when it has something else.

    The content may be text, a list of parts, of which only texts count, or, in a turn that only calls tools, null.

    Example:
        >>> read_content({"role": "user", "content": [{"type": "text", "text": "Hi"}]})
        'Hi'
        >>> read_content({"role": "user", "content": [{"type": "image_url"}, "What is this?"]})
        'What is this?'
        >>> read_content({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]})
        ''
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and message.get("tool_calls"):
        return ""
    return _join(content) if isinstance(content, list) else None


def _join(parts: Sequence[object]) -> str | None:
    """Join the texts among parts; words with an image between them stay two words. None where there is no text."""
    texts: list[str] = []
    apart = False
    for part in parts:
        if not (isinstance(part, str) or _is_text(part)):
            apart = True
            continue
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            return None
        if apart and texts and not (texts[-1][-1:].isspace() or text[:1].isspace()):
            texts.append("\n")
        texts.append(text)
        apart = False
    return "".join(texts) if texts else None


def _is_text(part: object) -> bool:
    """Whether a part is text; Qwen's libraries write `{"text": ...}` and `{"image": ...}` without a type."""
    return isinstance(part, Mapping) and (part.get("type") in _TEXTS or ("type" not in part and "text" in part))
