"""The rows of a scored file or table: each response with the reward that stands beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

import orjson

from flip_reward.core.conversation import Group
from flip_reward.data.frames import Table, open_frame
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow
from flip_reward.data.shapes import find_shape
from flip_reward.errors import DataError
from flip_reward.selection.select import ScoredResponse, Values

REWARD = "reward"
_COLUMNS_SHOWN = 12


def open_scored(
    *sources: str | Path | Table,
    columns: Mapping[str, str] | None = None,
    reward: str | None = None,
    group_by: str | None = None,
) -> ScoredFile:
    """Open scored rows, so that training data can be selected from them.

    Args:
        sources: Files as `-o` and `score_file` write them, or tables as `RewardModel.score_table` gives them back.
        columns: Our column names to theirs, where they were given for scoring.
        reward: The column of the rewards, where it is not `reward`.
        group_by: What the rows of a group share. By default the prompt.

    Raises:
        DataError: They cannot be read, or their columns are not known.

    Example:
        >>> import pandas as pd
        >>> from flip_reward.selection import Pair, select_pairs
        >>> table = pd.DataFrame({"prompt": ["Say hi."] * 2, "response": ["Hm.", "Hi!"], "reward": [0.1, 0.8]})
        >>> [pair] = [found for found in select_pairs(open_scored(table).read) if isinstance(found, Pair)]
        >>> pair.chosen.text, pair.to_row()["rejected"]
        ('Hi!', 'Hm.')
    """
    inputs = [_open(source) for source in sources]
    return ScoredFile(inputs, find_shape(inputs, columns).to_group, reward, group_by)


def _open(source: str | Path | Table) -> Input:
    frame = open_frame(source)
    return open_input(str(source)) if frame is None else Input.in_memory("the table", frame.rows)


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """Scored rows that can be read again."""

    inputs: Sequence[Input]
    to_group: Callable[[Values, str], Group]
    """Reads the conversation and the responses of a row."""
    reward: str | None = None
    """The column of the rewards. None looks for `reward`, or the name it has where the rows had one before."""
    group_by: str | None = None
    """Rows with the same value of this column form a group. None: those with the same conversation."""

    def read(self) -> Iterator[ScoredResponse]:
        """Read the responses of all rows, but for those that cannot be read."""
        for response in self._read():
            if isinstance(response, ScoredResponse):
                yield response

    def read_invalid(self) -> Iterator[InvalidRow]:
        """Read why the other rows cannot be."""
        for response in self._read():
            if isinstance(response, InvalidRow):
                yield response

    def _read(self) -> Iterator[ScoredResponse | InvalidRow]:
        for source in self.inputs:
            column = None
            for row in source.rows():
                if isinstance(row, InvalidRow):
                    yield replace(row, source=source.name)
                    continue
                column = column or self._find_reward(row.values, source.name)
                try:
                    group = self.to_group(row.values, "")
                    rewards = read_rewards(row.values, column, len(group.responses))
                    key = None if self.group_by is None else self._read_key(row.values)
                except DataError as error:
                    yield InvalidRow(row.position, row.line, str(error), source.name)
                    continue
                outcomes = row.values.get(column.replace(REWARD, "outcome"))
                for index, reward in enumerate(rewards):
                    outcome = outcomes[index] if _is_one_each(outcomes, rewards) else outcomes
                    said = f"not scored: {outcome}" if isinstance(outcome, str) and outcome else "not scored"
                    yield ScoredResponse(row.values, group, index, reward, key, said)

    def _find_reward(self, values: Values, source: str) -> str:
        for name in (self.reward,) if self.reward else (f"flip_{REWARD}", REWARD):
            if name in values or any(f"{name}_{column}" in values for column in values):
                return name
        listed = ", ".join(repr(name) for name in list(values)[:_COLUMNS_SHOWN])
        raise DataError(
            f"{source} has no column {self.reward or REWARD!r}; it has {listed}",
            hint="score it first, with -o FILE, or name the column with --reward-column",
        )

    def _read_key(self, values: Values) -> object:
        if values.get(str(self.group_by)) is None:
            raise DataError(f"no value in the column {self.group_by!r}")
        return values[str(self.group_by)]


def read_rewards(values: Values, column: str, count: int) -> list[float | None]:
    """Read the rewards of a row's responses: a number, a list, or a column for each column of responses.

    Text, as in CSV, is read as the number or the JSON list that it spells. An empty cell is no reward.

    Example:
        >>> read_rewards({"reward": "[0.5, null]"}, "reward", 2)
        [0.5, None]
        >>> read_rewards({"b": "x", "a": "y", "reward_a": 0.25, "reward_b": ""}, "reward", 2)
        [None, 0.25]
    """
    if column in values:
        found = _parse(values[column], column)
        rewards = found if isinstance(found, list) else [found]
    else:
        rewards = [values[f"{column}_{name}"] for name in values if f"{column}_{name}" in values]
    numbers = [_read_number(_parse(reward, column), column) for reward in rewards]
    if numbers == [None]:
        numbers *= count  # rejected as a whole
    if len(numbers) != count:
        raise DataError(f"there are {len(numbers)} rewards in {column!r} for {count} responses")
    return numbers


def _parse(value: object, column: str) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return orjson.loads(value)
    except ValueError:
        raise DataError(f"{column!r} holds {value[:40]!r}, which is no number") from None


def _read_number(value: object, column: str) -> float | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{column!r} holds {str(value)[:40]!r}, which is no number")
    return float(value)


def to_sft_row(response: ScoredResponse) -> dict[str, object]:
    """Return the row of a response as it came in; of one among several, with what belongs to it alone.

    Example:
        >>> group = Group.of("Name a fruit.", ["Pear.", "Bread."])
        >>> values = {"prompt": "Name a fruit.", "responses": ["Pear.", "Bread."], "reward": [0.9, 0.1]}
        >>> to_sft_row(ScoredResponse(values, group, 0, 0.9))
        {'prompt': 'Name a fruit.', 'response': 'Pear.', 'reward': 0.9}
    """
    count = len(response.group.responses)
    if count == 1:
        return dict(response.values)
    row: dict[str, object] = {}
    for name, value in response.values.items():
        if isinstance(value, list) and len(value) == count and not _is_message(value[0]):
            row["response" if name == "responses" else name] = value[response.index]
        else:
            row[name] = value
    return {**row, "response": response.text, REWARD: response.reward}


def _is_one_each(value: object, rewards: Sequence[object]) -> TypeGuard[list[object]]:
    return isinstance(value, list) and len(value) == len(rewards)


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and "role" in value
