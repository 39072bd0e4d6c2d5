"""Prompts to train on: a conversation that ends with a user turn, and which rewards its responses get.

A row has three columns, those of the published sets:

    messages       the conversation: a list of {"role", "content"}
    ground_truth   the instruction: a text, or a list of texts. Rewards here compare with the last user turn, which
                   it should equal
    dataset        the reward of the row (see `DATA_REWARDS`), or a list of rewards with as many ground truths

`read_rows` reads such rows; `convert_rows` makes them of prompts and chats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

from flip_reward.core.conversation import Group, Message
from flip_reward.data.rows import Input, InvalidRow, RawRow
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.data.tables import write_table
from flip_reward.errors import ConversationError, DataError, FlipRewardError, OptionError, suggest_name
from flip_reward.rewards.composite.formula import is_formula, parse_formula
from flip_reward.rewards.config import REWARDS
from flip_reward.rewards.function import is_function_name

DATA_REWARDS: MappingProxyType[str, str] = MappingProxyType(
    {
        "general-flip": "flip",
        "general-quality": "pointwise",
        **{f"general-{reward}": reward for reward in REWARDS},
    }
)
"""The names in the column "dataset", and the rewards that they stand for. Published sets have the first two."""


def name_data_reward(reward: str) -> str:
    """Return the name in the column "dataset" that asks for a reward.

    Example:
        >>> name_data_reward("flip"), name_data_reward("min(flip, copy)")
        ('general-flip', 'min(flip, copy)')
    """
    return f"general-{reward}" if reward in REWARDS else reward


def resolve_data_reward(name: str, place: str = "dataset") -> str:
    """Return the reward that a name in the column "dataset" asks for; a formula or function asks for itself.

    Example:
        >>> resolve_data_reward("general-quality")
        'pointwise'
    """
    if name in DATA_REWARDS:
        return DATA_REWARDS[name]
    if is_function_name(name):
        return name
    if is_formula(name, REWARDS):
        try:
            parse_formula(name, REWARDS)
        except OptionError as error:
            raise DataError(f"unknown reward {name!r} in {place!r}: {error}", hint=error.hint) from None
        return name
    suggestion = suggest_name(name, DATA_REWARDS)
    raise DataError(
        f"unknown reward {name!r} in {place!r}{suggestion}", hint=f"rewards are {', '.join(DATA_REWARDS)}"
    )


_COLUMNS = ("messages", "ground_truth", "dataset")
_ROWS_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt to train on."""

    messages: tuple[Message, ...]
    """The last turn is the user's."""
    datasets: tuple[str, ...]
    """The names of its rewards, at least one."""
    ground_truths: tuple[str, ...]
    """One for each of them."""

    @classmethod
    def read(cls, values: Mapping[str, object]) -> PromptRow:
        """Read a row, without the assistant's turns at its end: the policy writes new ones."""
        for column in _COLUMNS:
            if values.get(column) is None:
                raise DataError(f"no column {column!r}", hint="make such a file with 'flip-reward data convert'")
        messages = read_messages(values["messages"])
        datasets = _read_texts("dataset", values["dataset"])
        ground_truths = _read_texts("ground_truth", values["ground_truth"])
        if len(datasets) != len(ground_truths):
            raise DataError(f"{len(datasets)} names in 'dataset' for {len(ground_truths)} in 'ground_truth'")
        for name in datasets:
            resolve_data_reward(name)
            if datasets.count(name) > 1:
                raise DataError(f"{name!r} is twice in 'dataset'")
        return cls(messages, datasets, ground_truths)

    @classmethod
    def of(cls, messages: tuple[Message, ...], dataset: str) -> PromptRow:
        """Make a row of a conversation that ends with a user turn."""
        return cls(messages, (dataset,), (messages[-1].content,))

    @property
    def instruction(self) -> str:
        """The last user turn."""
        return self.messages[-1].content

    @property
    def has_other_ground_truth(self) -> bool:
        """Whether a ground truth, which no reward reads, differs from the instruction."""
        return any(text.strip() != self.instruction.strip() for text in self.ground_truths)

    def to_columns(self) -> dict[str, object]:
        """Return the row as a file holds it."""
        alone = len(self.datasets) == 1
        return {
            "messages": [{"role": message.role, "content": message.content} for message in self.messages],
            "ground_truth": self.ground_truths[0] if alone else list(self.ground_truths),
            "dataset": self.datasets[0] if alone else list(self.datasets),
        }


class PromptColumns(TypedDict):
    """The columns of a file whose rows have one reward each."""

    messages: list[Message]
    ground_truth: str
    dataset: str


class SeveralColumns(TypedDict):
    """The columns of a file whose rows have several rewards each."""

    messages: list[Message]
    ground_truth: list[str]
    dataset: list[str]


def read_rows(source: Input) -> Iterator[PromptRow | InvalidRow]:
    """Read the rows of an input, the bad ones as `InvalidRow`."""
    for row in source.rows():
        if isinstance(row, InvalidRow):
            yield row
            continue
        try:
            yield PromptRow.read(row.values)
        except FlipRewardError as error:
            yield InvalidRow(row.position, row.line, str(error))


def holds_training_rows(source: Input) -> bool:
    """Whether any of the first rows is one to train on, or names a reward, and not just a prompt."""
    first = [row.values for row in islice(source.rows(), _ROWS_LOOKED_AT) if isinstance(row, RawRow)]
    return any(values.keys() >= set(_COLUMNS) or str(values.get("dataset")) in DATA_REWARDS for values in first)


def read_messages(value: object) -> tuple[Message, ...]:
    """Read a conversation, without the assistant's turns at its end."""
    if not isinstance(value, list):
        raise DataError(f"'messages' must be a list of messages, not {type(value).__name__}")
    try:
        return end_with_user(Group.of(value, "").messages)
    except ConversationError as error:
        raise DataError(str(error)) from error


def end_with_user(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return a conversation without the assistant's turns at its end."""
    while messages and messages[-1].role == "assistant":
        messages = messages[:-1]
    if not messages or messages[-1].role != "user":
        raise DataError("the conversation has no user turn at its end")
    if not messages[-1].content.strip():
        raise DataError("the last user turn is empty")
    return messages


def write_rows(path: Path, rows: Sequence[PromptRow]) -> None:
    """Write rows as JSON lines (.jsonl, .jsonl.gz) or Parquet, by the name of the file."""
    if path.suffix.lower() != ".parquet":
        write_table(path, (row.to_columns() for row in rows), PromptColumns)
        return
    several = {len(row.datasets) > 1 for row in rows}
    if len(several) > 1:
        raise DataError("a Parquet file cannot hold rows with one reward beside rows with several")
    write_table(path, (row.to_columns() for row in rows), SeveralColumns if True in several else PromptColumns)


def _read_texts(column: str, value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{column!r} must be a text or a list of texts")
    return tuple(texts)


def convert_rows(source: Input, dataset: str, shape: Shape | None = None) -> Iterator[PromptRow | InvalidRow]:
    """Make training rows of prompts or chats, by default in the shape that `find_shape` finds, or of training rows.

    Training rows are switched to the reward.
    """
    resolve_data_reward(dataset)
    shape = shape or find_shape([source], need=Need.PROMPTS)
    for row in source.rows():
        if isinstance(row, InvalidRow):
            yield row
            continue
        try:
            yield _convert(row.values, dataset, shape)
        except FlipRewardError as error:
            yield InvalidRow(row.position, row.line, str(error))


def _convert(values: Mapping[str, object], dataset: str, shape: Shape) -> PromptRow:
    if all(values.get(column) is not None for column in _COLUMNS):
        return PromptRow.of(read_messages(values["messages"]), dataset)
    return PromptRow.of(end_with_user(shape.to_group(values, "").messages), dataset)
