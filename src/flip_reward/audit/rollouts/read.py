"""Rows of a trainer's log -> rollouts, one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from pathlib import Path

import orjson

from flip_reward.audit.monitor.rollout import Rollout
from flip_reward.audit.rollouts.columns import NAMED_OTHERS, WHOLE, RolloutColumns
from flip_reward.audit.rollouts.numbers import read_reward, read_step
from flip_reward.core.chat.template import ChatReader, split_query
from flip_reward.core.conversation import Group, Message
from flip_reward.core.response import replace_lone_surrogates, select_target
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row
from flip_reward.data.shapes.columns import open_cell
from flip_reward.data.shapes.conversations import ChatMessage, read_conversation, read_replies, split_at_last_reply
from flip_reward.data.shapes.known import fold_name
from flip_reward.data.storage import is_there
from flip_reward.errors import ConversationError, DataError, OptionError

_ROWS_SEEN = 32
"""How many rows show what the columns hold."""
_BELOW = (("samples/train", "samples/held-out"), ("completions", ""))
"""Where `flip-reward train` and TRL keep samples below their output folder, and responses to held-out prompts."""
_STEP = re.compile(r"step[-_ ]?(\d{1,15})(?!\d)", re.IGNORECASE)
_SCORED = "flip_scored"
"""Where `integrations.verl` says 0 for an unscored response."""
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class RolloutSource:
    """A log whose columns are known."""

    name: str
    given: RolloutColumns
    columns: RolloutColumns
    """Those of its first file."""
    rows: Iterator[Row]
    size_hint: int | None
    input: Input
    """Kept because standard input exists as long as it does."""
    held_out: bool = False
    """Whether these are responses to prompts that are not learned from."""

    def rollouts(self) -> Iterator[list[Rollout] | InvalidRow]:
        """Yield the rollouts of each row, or what is wrong with it."""
        for file, rows in _split_by_file(self.rows):
            first = list(islice(rows, _ROWS_SEEN))
            reader = RowReader(self._find_columns(first))
            for row in chain(first, rows):
                if isinstance(row, InvalidRow):
                    yield row
                    continue
                try:
                    yield reader.read(row.values, file or self.name)
                except (DataError, ConversationError) as error:
                    yield InvalidRow(row.position, row.line, f"{file}: {error}" if file else str(error))

    def _find_columns(self, first: list[Row]) -> RolloutColumns:
        """Return the columns of a file, which may be named otherwise than those of the first one."""
        seen = [row.values for row in first if isinstance(row, RawRow)]
        if not seen or self.columns.are_in(set().union(*seen)):
            return self.columns
        try:
            return self.given.find(seen)
        except OptionError:
            return self.columns  # its rows say what is missing


def open_rollouts(
    source: str | Input, columns: RolloutColumns, *, encoding: str | None = None
) -> list[RolloutSource]:
    """Open a log: what `data.readers.open_input` opens, or the output folder of `flip-reward train` or TRL."""
    if isinstance(source, Input):
        return [_find(source, source.name, columns)]
    for train, held_out in _BELOW:
        if is_there(f"{source}/{train}"):
            there = [one for one in (train, held_out) if one and is_there(f"{source}/{one}")]
            return [
                replace(
                    _open(f"{source}/{one}", columns, encoding),
                    name=f"{Path(source).name}/{one}",
                    held_out=one == held_out,
                )
                for one in there
            ]
    return [_open(source, columns, encoding)]


def _open(source: str, columns: RolloutColumns, encoding: str | None) -> RolloutSource:
    return _find(open_input(source, encoding=encoding), source, columns)


def _find(opened: Input, source: str, columns: RolloutColumns) -> RolloutSource:
    """Find out what the columns of an opened log hold."""
    rows = opened.rows()
    first = list(islice(rows, _ROWS_SEEN))
    seen = [row for row in first if isinstance(row, RawRow)]
    seen = [row for row in seen if row.source == seen[0].source]
    if not seen:
        reason = f": {first[0].reason}" if first and isinstance(first[0], InvalidRow) else ""
        raise DataError(f"{source} has no rows that can be read{reason}")
    found = columns.find([row.values for row in seen])
    if found.step is None and find_step(seen[0].source or opened.name) is None:
        raise DataError(
            f"{source} has no column with the step, and the name of {seen[0].source or opened.name} holds none",
            hint="name the column with --columns step=..., or the files after their steps, such as step-000010.jsonl",
        )
    return RolloutSource(opened.name, columns, found, chain(first, rows), opened.size_hint, opened)


def _split_by_file(rows: Iterable[Row]) -> Iterator[tuple[str, Iterator[Row]]]:
    """Split rows at each new file of a folder; a row that cannot be read belongs to that of the row before."""
    file = ""

    def find_file(row: Row) -> str:
        nonlocal file
        if isinstance(row, RawRow):
            file = row.source
        return file

    return groupby(rows, find_file)


def find_step(place: str) -> int | None:
    """Find the step in the path of a file in its folder.

    Example:
        >>> find_step("completions_00010.parquet"), find_step("5.jsonl.gz"), find_step("step_7/rank_0.jsonl")
        (10, 5, 7)
        >>> find_step("rollouts_2026-05-01.jsonl") is None
        True
    """
    if named := _STEP.findall(place):
        return int(named[-1])
    numbers = _NUMBER.findall(place.rpartition("/")[2].partition(".")[0])
    return int(numbers[0]) if len(numbers) == 1 and len(numbers[0]) <= 15 else None


class RowReader:
    """Reads rows of known columns."""

    def __init__(self, columns: RolloutColumns) -> None:
        self._columns = columns
        self._chat = ChatReader()
        self._earlier: object = None
        self._prompt = _Prompt("", "")

    def read(self, values: Mapping[str, object], place: str) -> list[Rollout]:
        """Return the rollouts of a row: one, or as many as it has responses."""
        for column in (self._columns.prompt, self._columns.response):
            if column is not None and column not in values:
                raise DataError(f"there is no {column!r}")
        step = self._read_step(values, place)
        prompt, responses = self._read_texts(values)
        rewards = [_read_list(values.get(name), name, len(responses)) for name in self._columns.reward]
        if values.get(_SCORED) in (0, "0"):  # the number is what the trainer got in place of a score
            rewards = [[None] * len(responses)]
        others = {name: _read_list(values.get(name), name, len(responses)) for name in self._columns.others}
        others.update(_read_named_others(values, len(responses)))
        return [
            Rollout(
                step,
                replace_lone_surrogates(prompt),
                replace_lone_surrogates(response),
                _add([one[number] for one in rewards]),
                {name: found[number] for name, found in others.items()},
            )
            for number, response in enumerate(responses)
        ]

    def _read_step(self, values: Mapping[str, object], place: str) -> int:
        if self._columns.step is not None:
            return read_step(values.get(self._columns.step), self._columns.step)
        step = find_step(place)
        if step is None:
            raise DataError(f"the name of {place} holds no step")
        return step

    def _read_texts(self, values: Mapping[str, object]) -> tuple[str, list[str]]:
        """Return the instruction and the responses."""
        asked, answered = self._columns.prompt, self._columns.response
        given = None if answered is None else open_cell(answered, values[answered])
        if asked is None:
            if not isinstance(given, str):
                raise DataError(f"{answered!r} must be text that holds the prompt and the response")
            chat = self._chat.split_chat(given)
            return select_target(chat.messages).instruction, [chat.response]
        value = open_cell(asked, values[asked])
        if answered is None:
            messages = read_conversation(value, asked)
            if isinstance(messages, str):
                raise DataError(f"{asked!r} must be a list of messages that ends with the response")
            reply = split_at_last_reply(messages, repr(asked))
            return _read_instruction(reply.before), [reply.text]
        if value != self._earlier:  # trainers repeat a prompt for each of its samples
            self._prompt = self._read_prompt(value, asked)
            self._earlier = value
        if isinstance(given, str) and isinstance(value, str) and fold_name(answered) in WHOLE:
            given = split_query(given, value)
        return self._prompt.instruction, [
            self._prompt.prefill + self._chat.strip_end_marks(one.text) for one in read_replies(given, answered)
        ]

    def _read_prompt(self, value: object, column: str) -> _Prompt:
        if isinstance(value, str):
            try:
                rendered = self._chat.read_prompt(value)
                return _Prompt(select_target(rendered.messages).instruction, rendered.prefill)
            except ConversationError:  # marks that nobody knows stay, which only makes copies look a little smaller
                return _Prompt(value, "")
        messages = read_conversation(value, column)
        return _Prompt(messages if isinstance(messages, str) else _read_instruction(messages), "")


@dataclass(frozen=True, slots=True)
class _Prompt:
    instruction: str
    prefill: str
    """What the chat template began the response with."""


def _read_instruction(messages: list[ChatMessage] | tuple[ChatMessage, ...]) -> str:
    conversation: tuple[Message, ...] = Group.of(messages, "").messages
    return select_target(conversation).instruction


def _read_list(value: object, column: str, count: int) -> list[float | None]:
    """Read a number for each response."""
    value = open_cell(column, value, lists=True)
    if isinstance(value, list) and len(value) > 1:
        if len(value) != count:
            raise DataError(f"{column!r} has {len(value)} numbers for {count} response{'s' * (count != 1)}")
        return [read_reward(one, column) for one in value]
    number = read_reward(value, column)
    if count != 1:
        raise DataError(f"{column!r} has one number for {count} responses")
    return [number]


def _read_named_others(values: Mapping[str, object], count: int) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for column in NAMED_OTHERS:
        value = values.get(column)
        if isinstance(value, str):
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                continue
        if isinstance(value, Mapping):
            found.update(
                {replace_lone_surrogates(str(name)): _read_list(one, str(name), count) for name, one in value.items()}
            )
    return found


def _add(rewards: list[float | None]) -> float | None:
    """Add up rewards, without those that are not there, as TRL does; None where there is none."""
    known = [one for one in rewards if one is not None]
    return sum(known) if known else None
