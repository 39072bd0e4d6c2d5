"""Prompts and chats of any source as rows to train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flip_reward.data.input import Input, RejectedRow
from flip_reward.data.rows import CONVERSATION_COLUMNS, RESPONSE_COLUMNS, RowMapper, parse_columns
from flip_reward.errors import FlipRewardError
from flip_reward.training.prompts.data_rewards import resolve_data_reward
from flip_reward.training.prompts.rows import COLUMNS, BadRow, PromptRow, end_with_user, read_messages

_CHAT_COLUMN = "conversation"  # what WildChat and others call it


def convert_rows(
    source: Input, dataset: str, columns: Mapping[str, str] | None = None
) -> Iterator[PromptRow | BadRow]:
    """Make training rows of prompts ("instruction", "prompt"), chats ("messages", "conversation"), or training rows.

    Rows that are of the schema already are switched to the reward.

    Args:
        source: Where they are.
        dataset: The name of the reward that they are to get; one of `DATA_REWARDS`.
        columns: Our column names to theirs, as for `--columns`.

    Raises:
        DataError: The input cannot be read, or there is no such reward.
        OptionError: A name in `columns` is none of ours.
    """
    resolve_data_reward(dataset)
    mapped = parse_columns(",".join(f"{ours}={theirs}" for ours, theirs in columns.items())) if columns else {}
    mapper = RowMapper(mapped)
    for row in source.rows():
        if isinstance(row, RejectedRow):
            yield BadRow(row.line, row.reason)
            continue
        try:
            yield _convert(row.values, dataset, mapper)
        except FlipRewardError as error:
            yield BadRow(row.line, str(error))


def _convert(values: Mapping[str, object], dataset: str, mapper: RowMapper) -> PromptRow:
    if all(values.get(column) is not None for column in COLUMNS):
        return PromptRow.of(read_messages(values["messages"]), dataset)
    kept = {name: value for name, value in values.items() if name not in RESPONSE_COLUMNS}
    if isinstance(kept.get(_CHAT_COLUMN), list) and not any(kept.get(name) for name in CONVERSATION_COLUMNS):
        kept["messages"] = kept[_CHAT_COLUMN]
    group = mapper.to_group({**kept, "responses": [""]}, "")
    return PromptRow.of(end_with_user(group.messages), dataset)
