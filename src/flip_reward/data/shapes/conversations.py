"""How the value of a cell becomes a conversation or a reply: texts, lists of messages, transcripts, API objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from flip_reward.core.conversation import ROLES, read_content
from flip_reward.data.cells import is_missing, read_response
from flip_reward.data.shapes.columns import ITEM_TYPES, name_type, open_cell
from flip_reward.errors import DataError

ChatMessage: TypeAlias = Mapping[str, object]

_ROLE_NAMES = {
    "human": "user",
    "prompter": "user",
    **dict.fromkeys(("gpt", "bot", "model", "ai", "chatgpt", "bing", "function_call"), "assistant"),
    **dict.fromkeys(("function", "observation", "tool_response", "ipython"), "tool"),
}
"""What ShareGPT's and other sets call those who speak."""
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ ]?")
TRANSCRIPT_START = "\n\nHuman:"
_PARTS = ("text", "output_text", "input_text")
_TEXT_KEYS = (
    "content",
    "value",
    "text",
    "answer",
    "response",
    "completion",
    "output",
    "output_text",
    "generated_text",
)
"""Where the text stands in an object that holds one candidate."""


@dataclass(slots=True)
class Reply:
    """A candidate as it stands in a cell."""

    text: str
    before: tuple[ChatMessage, ...] = ()
    """The turns that the cell holds before it."""


def is_messages(value: object) -> bool:
    """Whether a value is a list of messages, of any naming."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, Mapping) and _find_role(one) is not None for one in value)
    )


def ends_with_reply(value: object) -> bool:
    """Whether a value is a conversation whose last message is the assistant's."""
    if isinstance(value, Mapping):
        value = value.get("messages")
    return is_messages(value) and isinstance(value, list) and _find_role(value[-1]) == "assistant"


def is_transcript(value: object) -> bool:
    """Whether a value is a text of turns of "Human:" and "Assistant:", as in the HH sets."""
    return isinstance(value, str) and value.startswith(TRANSCRIPT_START)


def read_conversation(value: object, column: str, *, transcripts: bool = False) -> str | list[ChatMessage]:
    """Read an instruction, or a conversation as messages with our roles."""
    if isinstance(value, str):
        if not value or value.isspace():
            raise DataError(f"{column!r} is empty: there is no instruction to compare with")
        if not (transcripts and is_transcript(value)):
            return value
        turns = _read_transcript(value)
        asks = turns[-1]["role"] == "assistant" and not str(turns[-1]["content"]).strip()
        return turns[:-1] if asks else turns
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if not isinstance(value, list):
        raise DataError(f"{column!r} must be text or a list of messages, not {name_type(value)}")
    return _read_messages(value)


def read_turns(value: object, column: str) -> list[str]:
    """Read what one side said in the turns of a conversation, as JSON: the arena's data have such cells."""
    turns = open_cell(column, value, lists=True)
    if not (isinstance(turns, list) and all(isinstance(turn, str | None) for turn in turns)):
        raise DataError(f"{column!r} must be a list of texts, one for each turn")
    return [turn or "" for turn in turns]


def join_turns(asked: Sequence[str], answered: Sequence[str], column: str) -> list[ChatMessage]:
    """Make a conversation of what both sides said."""
    if len(asked) != len(answered):
        raise DataError(f"{column!r} has {len(answered)} turns, and the prompt {len(asked)}")
    pairs = zip(asked, answered, strict=True)
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(_SPEAKERS, pair, strict=True)]


_SPEAKERS = ("user", "assistant")


def read_replies(value: object, column: str, *, transcripts: bool = False) -> list[Reply]:
    """Read the candidates in a cell: one, or a list of them."""
    if isinstance(value, str) and not transcripts:
        return [Reply(value)]
    if isinstance(value, Mapping):
        value = _open_api_object(value)
    if isinstance(value, list) and value and not _is_one_reply(value):
        return [
            _read_reply(one, f"number {number} of {column!r}", transcripts=transcripts)
            for number, one in enumerate(value, 1)
        ]
    return [_read_reply(value, repr(column), transcripts=transcripts)]


def _open_api_object(value: Mapping[str, object]) -> object:
    """Return what an answer of a chat or responses API holds, also inside a line of a batch."""
    body = value.get("body")
    value = body if isinstance(body, Mapping) else value
    for key in ("choices", "output", "messages"):
        if isinstance(value.get(key), list):
            return value[key]
    return value


def _is_one_reply(value: Sequence[object]) -> bool:
    """Whether a list is one candidate as messages, items of the responses API or parts, not several candidates."""
    if not all(
        isinstance(one, Mapping) and (_find_role(one) is not None or one.get("type") in ITEM_TYPES) for one in value
    ):
        return False
    alternatives = len(value) > 1 and all(isinstance(one, Mapping) and "type" not in one for one in value)
    return not (alternatives and all(_find_role(one) == "assistant" for one in value if isinstance(one, Mapping)))


def _read_reply(value: object, place: str, *, transcripts: bool) -> Reply:
    if isinstance(value, str):
        if not (transcripts and is_transcript(value)):
            return Reply(value)
        value = _read_transcript(value)
    if is_missing(value):
        return Reply("")
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        if all(_find_role(one) is None and one.get("type") in _PARTS for one in value):
            return Reply(read_content({"content": value}) or "")
        return split_at_last_reply(_read_messages(value), place)
    if isinstance(value, Mapping):
        return Reply(_read_object(value, place))
    text = read_response(value)
    if text is not None:
        return Reply(text)
    raise DataError(f"{place} must be text, not {name_type(value)}")


def _read_object(value: Mapping[str, object], place: str) -> str:
    if isinstance(message := value.get("message"), Mapping):  # one of the choices of an API
        value = message
    if _find_role(value) is not None:
        return split_at_last_reply([_read_message(value)], place).text
    for key in _TEXT_KEYS:
        if isinstance(text := value.get(key), str):
            return text
    raise DataError(f"{place} must be text, not an object with {', '.join(map(repr, list(value)[:5])) or 'nothing'}")


def split_at_last_reply(messages: Sequence[ChatMessage], place: str) -> Reply:
    """Take the last message as the candidate."""
    if not messages or messages[-1]["role"] != "assistant":
        raise DataError(f"{place} does not end with an assistant message that could be scored")
    text = read_content(messages[-1])
    if text is None:
        raise DataError(f"the last message of {place} holds {name_type(messages[-1]['content'])}, not text")
    return Reply(text, tuple(messages[:-1]))


def _read_messages(values: Sequence[object]) -> list[ChatMessage]:
    return [_read_message(one) for one in values if not (isinstance(one, Mapping) and one.get("type") == "reasoning")]


def _read_message(value: object) -> ChatMessage:
    if not isinstance(value, Mapping):
        raise DataError(f"a message must be an object with role and content, not {name_type(value)}")
    role = _find_role(value)
    if role is None:
        raise DataError("a message has no role")
    content = next((value[key] for key in ("content", "value", "text", "output") if key in value), None)
    if content is None and role == "assistant":  # it only called tools, declined, or never came to its answer
        content = value.get("refusal") or ""
    return {"role": role, "content": content}


def _find_role(value: Mapping[str, object]) -> str | None:
    """Return who speaks, in our words; names that nobody knows stay, for the message to say."""
    role = value.get("role", value.get("from"))
    if not isinstance(role, str):
        return {"function_call": "assistant", "function_call_output": "tool"}.get(str(value.get("type")))
    return role if role in ROLES else _ROLE_NAMES.get(role.casefold(), role)


def _read_transcript(text: str) -> list[ChatMessage]:
    r"""Read a transcript. A turn begins at a blank line and a name, as whoever wrote the transcript wrote it.

    Example:
        >>> [turn["content"] for turn in _read_transcript("\n\nHuman: Hi\n\nAssistant: Hello!")]
        ['Hi', 'Hello!']
    """
    turns = list(_TURN.finditer(text))
    ends = [turn.start() for turn in turns[1:]] + [len(text)]
    messages: list[ChatMessage] = [
        {"role": "user" if turn[1] == "Human" else "assistant", "content": text[turn.end() : end]}
        for turn, end in zip(turns, ends, strict=True)
    ]
    return messages
