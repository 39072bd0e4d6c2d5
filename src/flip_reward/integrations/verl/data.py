"""Our inputs as Parquet files with verl's columns, for `flip-reward data verl`.

The columns are those of verl 0.9's own examples: data_source, prompt (chat messages), ability, reward_model (style
and ground truth) and extra_info, which has the conversation once more: verl hands it to reward functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from flip_reward.core.conversation import Message
from flip_reward.core.response import select_target
from flip_reward.data.groups import read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.data.tables import write_table
from flip_reward.errors import ConversationError, DataError


@dataclass(frozen=True, slots=True)
class VerlColumns:
    """What is the same in every row."""

    data_source: str = ""
    """What verl groups validation metrics by; empty for the input's name."""
    ability: str = "chat"
    """verl's name for the kind of task."""
    split: str = "train"
    """Goes into extra_info."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our column names to the inputs' (see `parse_columns`)."""
    limit: int | None = None
    encoding: str | None = None
    """How the inputs' texts are encoded (see `open_input`)."""


def write_verl_parquet(
    inputs: Sequence[str],
    output: Path,
    constant: VerlColumns | None = None,
    *,
    tell: Callable[[Shape, Sequence[Input]], None] | None = None,
) -> int:
    """Write inputs as one Parquet file with verl's columns, and return how many rows it has.

    The inputs are files or data sets on the hub whose rows hold prompts; responses are left out, because the policy
    gives its own. The file appears whole or not at all: a row without a prompt is a `DataError`. `tell` learns
    how the rows are read.
    """
    constant = constant or VerlColumns()
    sources = [open_input(name, encoding=constant.encoding) for name in inputs]
    shape = find_shape(sources, constant.columns, need=Need.PROMPTS)
    if tell:
        tell(shape, sources)
    return write_table(output, _to_verl_rows(sources, shape, constant), _VerlRow)


def _to_verl_rows(sources: Sequence[Input], shape: Shape, constant: VerlColumns) -> Iterator[Mapping[str, object]]:
    for row in read_sources(sources, shape, limit=constant.limit):
        if isinstance(row, InvalidRow):
            raise DataError(f"{row.source}, line {row.line}: {row.reason}")
        try:
            instruction = select_target(row.group.messages).instruction
        except ConversationError as error:
            raise DataError(f"{row.source}, line {row.line}: {error}") from error
        turns = row.group.messages[:-1] if row.group.messages[-1].role == "assistant" else row.group.messages
        messages = [{"role": message.role, "content": message.content} for message in turns]
        yield {
            "data_source": constant.data_source or row.source,
            "prompt": messages,
            "ability": constant.ability,
            "reward_model": {"style": "model", "ground_truth": instruction},
            "extra_info": {
                "split": constant.split,
                "index": row.position,
                "id": row.group.id,
                "prompt": messages,
            },
        }


class _RewardModelColumn(TypedDict):
    style: str
    ground_truth: str


class _ExtraInfoColumn(TypedDict):
    split: str
    index: int
    id: str
    prompt: list[Message]


class _VerlRow(TypedDict):
    data_source: str
    prompt: list[Message]
    ability: str
    reward_model: _RewardModelColumn
    extra_info: _ExtraInfoColumn
