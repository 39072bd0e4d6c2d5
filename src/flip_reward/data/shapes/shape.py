"""How rows become groups: a `Shape` reads them all alike. `data.shapes` finds out which one fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flip_reward.core.conversation import Group, Message
from flip_reward.data.cells import is_null, read_id
from flip_reward.data.shapes.columns import (
    COLUMNS_EXAMPLE,
    CONVERSATION_COLUMNS,
    RESPONSE_COLUMNS,
    Column,
    list_columns,
    name_type,
    open_cell,
    suggest,
)
from flip_reward.data.shapes.conversations import (
    ChatMessage,
    Reply,
    ends_with_reply,
    join_turns,
    read_conversation,
    read_replies,
    read_turns,
    split_at_last_reply,
)
from flip_reward.data.shapes.preference import Preference
from flip_reward.errors import ConversationError, DataError

_LISTS = ("messages", "responses")
"""Columns that hold no plain text."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows are read. Without arguments: our own columns, whichever a row has.

    A row has an instruction or a prompt (text, or a list of chat messages) or "messages", with one "response" or
    several "responses"; or "messages" alone, whose last assistant message is the response to everything before it. A
    column that holds null counts as missing where another can take its place.

    Example:
        >>> Shape().to_group({"prompt": "Name a fruit.", "responses": ["Apple.", "Rain."]}, "row-0").responses
        ('Apple.', 'Rain.')
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column names to the rows', as the configuration of a run holds them; empty where they are ours."""
    description: str = "by our own column names"
    """In words, one line."""
    found: bool = False
    """Whether the shape had to be found out, so that the user is told."""
    candidate_columns: tuple[str, ...] = ()
    """The columns of the candidates, where each has its own."""
    many: bool = False
    """Whether a cell holds several candidates."""
    lists: bool = False
    """Whether cells hold them as JSON, in columns whose names do not say so."""
    preference: Preference | None = None
    """How the rows say which candidates are better, where they do."""
    id: str = "id"
    subset: str = "subset"
    conversations: tuple[Column, ...] = tuple(map(Column, CONVERSATION_COLUMNS))
    """Where the conversation may stand; the first one with a value counts."""
    alternatives: tuple[Column, ...] = tuple(map(Column, RESPONSE_COLUMNS))
    """Where the responses may stand, likewise. Unused where candidates have columns of their own."""
    whole: str | None = "messages"
    """The column whose last message is the response, where no other column has one."""
    transcripts: bool = False
    """Whether texts are transcripts of "Human:" and "Assistant:"."""
    turns: bool = False
    """Whether the prompt and each candidate are lists of turns as JSON, a side of the conversation each."""
    prompts_only: bool = False
    """Whether responses are not read: every group has a blank one."""

    def to_group(self, values: Mapping[str, object], default_id: str) -> Group:
        """Make the group a row stands for; a DataError says why there is none.

        An empty or missing response is kept, since it has an outcome of its own; an empty instruction is an error.
        """
        group_id = read_id(values.get(self.id)) or default_id
        if (plain := self._read_texts(values, group_id)) is not None:
            return plain
        replies = [Reply("")] if self.prompts_only and not self.candidate_columns else self._read_replies(values)
        if replies is None:
            blank = any(name in values for column in self.alternatives for name in column.needs)
            chat = Column(self.whole).read(values) if self.whole else None
            if self.whole and not is_null(chat) and (not blank or ends_with_reply(chat)):
                return self._split(self.whole, chat, group_id)
            if not blank and self._find(self.conversations, values) is not None:
                raise self._missing(self.alternatives, values)
            replies = [Reply("")]
        conversation = _join(self._read_prompt(values), replies)
        if conversation is None:
            raise self._missing(self.conversations, values)
        return _make_group(conversation, [""] if self.prompts_only else [reply.text for reply in replies], group_id)

    def _read_texts(self, values: Mapping[str, object], group_id: str) -> Group | None:
        """Make the group of a row of two texts that stand for nothing else, as most rows are."""
        if self.transcripts or self.lists or self.prompts_only or self.candidate_columns:
            return None
        prompt, response = _find_text(self.conversations, values), _find_text(self.alternatives, values)
        if not prompt or prompt.isspace() or response is None:
            return None
        return _check_texts(Group((Message("user", prompt),), (response,), group_id))

    def choose(self, values: Mapping[str, object]) -> tuple[bool, ...]:
        """Say for each candidate of a row whether it is one of the better ones; a DataError where nothing says it."""
        if self.preference is None:
            raise DataError("nothing says which candidate is better")
        counts = [len(self._read_cell(cell)) for cell in self._read_candidates(values)]
        found = self._find(self.alternatives, values)
        texts = [reply.text for reply in self._read_cell(found)] if found else []
        return self.preference.choose(values, counts, found.value if found else None, texts)

    def _read_replies(self, values: Mapping[str, object]) -> list[Reply] | None:
        if self.candidate_columns:
            replies = [reply for cell in self._read_candidates(values) for reply in self._read_cell(cell)]
            if not replies:
                raise DataError(f"{' and '.join(map(repr, self.candidate_columns))} are empty: nothing to score")
            return replies
        found = self._find(self.alternatives, values)
        return None if found is None else self._read_cell(found)

    def _read_candidates(self, values: Mapping[str, object]) -> Iterator[_Cell]:
        asked = self._read_asked(values) if self.turns else ()
        for name in self.candidate_columns:
            column = Column(name)
            value = column.read(values)
            yield _Cell(column, join_turns(asked, read_turns(value, name), name) if self.turns else value)

    def _read_asked(self, values: Mapping[str, object]) -> list[str]:
        [column, *_] = self.conversations
        return read_turns(column.read(values), column.name)

    def _read_cell(self, cell: _Cell) -> list[Reply]:
        column, value = cell
        if self.lists or column.fields:
            value = open_cell(column.name, value, lists=self.lists)
        if isinstance(value, list) and not value:
            if self.candidate_columns:
                return []
            raise DataError(f"{column.name!r} is an empty list: there is nothing to score")
        if column.name == "responses" and not isinstance(value, list | Mapping):
            raise DataError(f"'responses' must be a list of texts, not {name_type(value)}")
        return read_replies(value, column.name, transcripts=self.transcripts)

    def _read_prompt(self, values: Mapping[str, object]) -> str | list[ChatMessage] | None:
        if self.turns:
            asked = self._read_asked(values)
            if len(asked) > 1 and not self.candidate_columns:
                raise DataError(f"the prompt has {len(asked)} turns, and nothing says what was answered between them")
            return asked[0] if len(asked) == 1 else None
        found = self._find(self.conversations, values)
        if found is None:
            return None
        column, value = found
        if column.name == "messages" and isinstance(value, str):
            raise DataError("'messages' must be a list of messages, not text")
        return read_conversation(value, column.name, transcripts=self.transcripts)

    def _find(self, columns: Sequence[Column], values: Mapping[str, object]) -> _Cell | None:
        for column in columns:
            if not is_null(value := column.read(values)):
                return _Cell(column, value)
        return None

    def _split(self, column: str, chat: object, group_id: str) -> Group:
        messages = read_conversation(chat, column)
        if isinstance(messages, str):
            raise DataError(f"{column!r} must be a list of messages, not text")
        reply = split_at_last_reply(messages, repr(column))
        if not reply.before:
            raise DataError(f"{column!r} begins with the response: there is no instruction before it")
        return _make_group(list(reply.before), [reply.text], group_id)

    def _missing(self, columns: Sequence[Column], values: Mapping[str, object]) -> DataError:
        names = [name for column in columns for name in column.needs]
        for name in names:
            if name in values:
                return DataError(f"{name!r} is {'null' if is_null(values[name]) else 'empty'}")
        reason = f"no column {' or '.join(map(repr, names))}{suggest(names, values)}; {list_columns(values)}"
        return DataError(reason, hint=f"name the columns, {COLUMNS_EXAMPLE}")


class _Cell(NamedTuple):
    column: Column
    value: object


def _find_text(columns: Sequence[Column], values: Mapping[str, object]) -> str | None:
    """Return what stands in the first column with a value, where it is a text that holds no list."""
    for column in columns:
        value = values.get(column.name)
        if type(value) is str:
            return None if value.startswith("[") or column.name in _LISTS or column.fields else value
        if column.fields or value is not None:
            return None
    return None


def _join(prompt: str | list[ChatMessage] | None, replies: Sequence[Reply]) -> str | list[ChatMessage] | None:
    """Put the conversation together: cells of candidates may repeat it, or go on where the prompt ends."""
    if len(replies) == 1 and not replies[0].before:
        return prompt
    before = list(replies[0].before)
    if any(list(reply.before) != before for reply in replies[1:]):
        raise DataError("the candidates differ before their last turn: they answer different conversations")
    if prompt is None or not before:
        return prompt if prompt is not None else before or None
    if isinstance(prompt, str):
        repeated = any(turn["role"] == "user" and str(turn["content"]).strip() == prompt.strip() for turn in before)
        return before if repeated else [{"role": "user", "content": prompt}, *before]
    if prompt and prompt[-1] in before:
        return before if len(before) >= len(prompt) else prompt
    return [*prompt, *before]


def _make_group(prompt: str | list[ChatMessage], responses: Sequence[str], group_id: str) -> Group:
    try:
        group = Group.of(prompt, responses, id=group_id)
    except ConversationError as error:
        raise DataError(str(error), hint=error.hint) from error
    return _check_texts(group)


def _check_texts(group: Group) -> Group:
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
