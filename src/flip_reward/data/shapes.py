"""How the rows of inputs become groups: `find_shape` looks at the first ones, and its `Shape` reads them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from flip_reward.core.conversation import Group, read_content
from flip_reward.data.rows import Input
from flip_reward.errors import ConversationError, DataError, OptionError

CONVERSATION_COLUMNS = ("instruction", "prompt", "messages")
"""Where the conversation stands; the first one with a value counts."""
RESPONSE_COLUMNS = ("response", "responses")
"""Where the responses stand. Without any, the last assistant message of "messages" is the response."""
COLUMNS = ("id", *CONVERSATION_COLUMNS, *RESPONSE_COLUMNS)

_COLUMNS_SHOWN = 12
_COLUMN_NAME_SHOWN = 40


def parse_columns(text: str) -> dict[str, str]:
    """Read which columns of an input stand for ours, from `--columns`.

    Example:
        >>> parse_columns("instruction=question, response=answer")
        {'instruction': 'question', 'response': 'answer'}
    """
    columns: dict[str, str] = {}
    for pair in text.split(","):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and equals and theirs):
            raise OptionError(f"--columns: {pair.strip()!r} is not of the form ours=theirs", hint=_COLUMNS_EXAMPLE)
        if ours in columns:
            raise OptionError(f"--columns: {ours!r} is mapped twice")
        columns[ours] = theirs
    check_columns(columns)
    return columns


def check_columns(columns: Mapping[str, str]) -> None:
    """Make sure that our side of a mapping has names of ours, and none that exclude each other."""
    for ours in columns:
        if ours not in COLUMNS:
            raise OptionError(
                f"--columns: there is no {ours!r} to map{_suggest([ours], COLUMNS)}",
                hint=f"our columns are {', '.join(COLUMNS)}",
            )
    for one, other in (("instruction", "prompt"), RESPONSE_COLUMNS):
        if one in columns and other in columns:
            raise OptionError(f"--columns: {one!r} and {other!r} exclude each other")


_COLUMNS_EXAMPLE = "for example --columns instruction=question,response=answer"


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows are read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column names to the rows', as the configuration of a run holds them."""
    description: str = ""
    """In words."""
    candidate_columns: tuple[str, ...] = ()
    """The columns of the candidates, where each has its own."""
    many: bool = False
    """Whether a row holds a list of responses."""

    def to_group(self, values: Mapping[str, object], default_id: str) -> Group:
        """Make the group a row stands for; a DataError says why there is none."""
        return RowMapper(self.columns).to_group(values, default_id)


def find_shape(
    rows: Sequence[Input] | Sequence[Mapping[str, object]],  # noqa: ARG001
    columns: Mapping[str, str] | None = None,
) -> Shape:
    """Find out how the rows of inputs, or rows in memory, are read."""
    return Shape(columns or {})


class RowMapper:
    """Makes groups of raw rows.

    The shape is recognised row by row: an instruction or prompt (text, or a list of chat messages) or "messages",
    with one "response" or several "responses"; or "messages" alone, whose last assistant message is the response to
    everything before it. A column that holds null counts as missing where another can take its place. A mapped column
    must exist in every row, and replaces the others of its kind.
    """

    def __init__(self, columns: Mapping[str, str] | None = None) -> None:
        columns = columns or {}
        self._mapped = tuple(columns.values())
        self._id = columns.get("id", "id")
        self._conversations = _candidates(CONVERSATION_COLUMNS, columns)
        self._replies = _candidates(RESPONSE_COLUMNS, columns)
        whole = not any(ours in columns for ours in RESPONSE_COLUMNS)
        self._whole_conversation = dict(self._conversations).get("messages") if whole else None

    def to_group(self, values: Mapping[str, object], default_id: str) -> Group:
        """Make the group a row stands for.

        An empty response is kept, since it has an outcome of its own; an empty instruction is an error.
        """
        for column in self._mapped:
            if column not in values:
                raise DataError(f"no column {column!r}{_suggest([column], values)}; {_list_columns(values)}")
        group_id = _read_id(self._id, values.get(self._id), default_id)
        reply = _find(self._replies, values)
        if reply is None and self._whole_conversation and values.get(self._whole_conversation) is not None:
            return _split_at_last_reply(self._whole_conversation, values, group_id)
        conversation = _find(self._conversations, values)
        if conversation is None or reply is None:
            raise _missing(self._conversations if conversation is None else self._replies, values)
        return _make_group(_read_prompt(*conversation, values), _read_responses(*reply, values), group_id)


_Candidates: TypeAlias = tuple[tuple[str, str], ...]
"""Columns that may hold the same thing: our name and theirs."""


def _candidates(kind: tuple[str, ...], columns: Mapping[str, str]) -> _Candidates:
    mapped = tuple((ours, columns[ours]) for ours in kind if ours in columns)
    return mapped or tuple((ours, ours) for ours in kind)


def _find(candidates: _Candidates, values: Mapping[str, object]) -> tuple[str, str] | None:
    for candidate in candidates:
        if values.get(candidate[1]) is not None:
            return candidate
    return None


def _read_id(column: str, value: object, default_id: str) -> str:
    if value is None or value == "":
        return default_id
    if isinstance(value, str):
        return _encodable(value, column)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{column!r} must be text or a whole number, not {_name_type(value)}")


def _read_prompt(ours: str, column: str, values: Mapping[str, object]) -> str | list[Any]:
    value = values[column]
    if isinstance(value, list):
        return value
    if ours == "messages":
        raise DataError(f"{column!r} must be a list of messages, not {_name_type(value)}")
    if not isinstance(value, str):
        raise DataError(f"{column!r} must be text or a list of messages, not {_name_type(value)}")
    if not value or value.isspace():
        raise DataError(f"{column!r} is empty: there is no instruction to compare with")
    return value


def _read_responses(ours: str, column: str, values: Mapping[str, object]) -> str | list[str]:
    value = values[column]
    if ours == "response":
        if isinstance(value, str):
            return value
        hint = "; several belong in 'responses'" if isinstance(value, list) else ""
        raise DataError(f"{column!r} must be text, not {_name_type(value)}{hint}")
    if not isinstance(value, list):
        raise DataError(f"{column!r} must be a list of texts, not {_name_type(value)}")
    if not value:
        raise DataError(f"{column!r} is an empty list: there is nothing to score")
    for number, response in enumerate(value, 1):
        if not isinstance(response, str):
            raise DataError(f"{column!r} must be a list of texts, but number {number} is {_name_type(response)}")
    return value


def _split_at_last_reply(column: str, values: Mapping[str, object], group_id: str) -> Group:
    messages = _read_prompt("messages", column, values)
    last = messages[-1] if messages else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        raise DataError(f"{column!r} does not end with an assistant message that could be scored")
    if len(messages) == 1:
        raise DataError(f"{column!r} begins with the response: there is no instruction before it")
    response = read_content(last)
    if response is None:
        raise DataError(f"the last message of {column!r} holds {_name_type(last.get('content'))}, not text")
    return _make_group(messages[:-1], response, group_id)


def _make_group(prompt: str | list[Any], responses: str | list[str], group_id: str) -> Group:
    try:
        group = Group.of(prompt, responses, id=group_id)
    except ConversationError as error:
        raise DataError(str(error), hint=error.hint) from error
    for message in group.messages:
        if not message.content.isascii():
            _encodable(message.content, f"{message.role} message")
    for response in group.responses:
        if not response.isascii():
            _encodable(response, "response")
    return group


def _encodable(text: str, name: str) -> str:
    """Return the text unless it holds half a surrogate pair, which JSON can spell but nothing can send or store."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = ord(text[error.start])
        raise DataError(f"the {name} holds half a character (lone surrogate U+{lone:04X})") from None
    return text


def _missing(candidates: _Candidates, values: Mapping[str, object]) -> DataError:
    names = [column for _, column in candidates]
    for column in names:
        if column in values:
            return DataError(f"{column!r} is null")
    reason = f"no column {' or '.join(map(repr, names))}{_suggest(names, values)}; {_list_columns(values)}"
    return DataError(reason, hint=f"name the columns, {_COLUMNS_EXAMPLE}")


def _suggest(names: Iterable[str], known: Iterable[str]) -> str:
    known = list(known)
    near = [match for name in names for match in difflib.get_close_matches(name, known, n=1)]
    return f" (did you mean {near[0]!r}?)" if near else ""


def _list_columns(values: Mapping[str, object]) -> str:
    if not values:
        return "the row is empty"
    shown = ", ".join(repr(column[:_COLUMN_NAME_SHOWN]) for column in islice(values, _COLUMNS_SHOWN))
    return f"the row has {shown}" + (", ..." if len(values) > _COLUMNS_SHOWN else "")


def _name_type(value: object) -> str:
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return type(value).__name__


_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (bool, "true or false"),
    (str, "text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (Mapping, "an object"),
)
