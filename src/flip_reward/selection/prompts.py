"""Rows that hold only a prompt, as groups whose candidate responses are still to be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from flip_reward.data.input import Input, RawRow, RejectedRow, Row, Skip
from flip_reward.data.rows import RESPONSE_COLUMNS
from flip_reward.data.sources import Rejection, SourceRow
from flip_reward.errors import OptionError


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuse columns that would hold responses.

    Raises:
        OptionError: A column of responses is mapped.
    """
    for ours in RESPONSE_COLUMNS:
        if ours in columns:
            raise OptionError(f"--columns: {ours!r} has no place here: the responses are generated")


def open_for_candidates(source: Input, count: int) -> Input:
    """Give every row of an input so many blank responses, and reject rows that hold responses already.

    Example:
        >>> rows = [RawRow(0, 1, {"prompt": "Name a fruit."}), RawRow(1, 2, {"prompt": "Hi", "response": "Hello!"})]
        >>> prompts = open_for_candidates(Input("rows", read=lambda skip: iter(rows)), 2)
        >>> blank, rejected = prompts.rows()
        >>> blank.values["responses"], rejected.reason
        (['', ''], "the row has a 'response' already, and responses are to be generated")
    """

    def read(skip: Skip) -> Iterator[Row]:
        return (_without_responses(row, count) if isinstance(row, RawRow) else row for row in source.rows(skip))

    return replace(source, read=read)


def _without_responses(row: RawRow, count: int) -> Row:
    for column in RESPONSE_COLUMNS:
        if row.values.get(column):
            reason = f"the row has a {column!r} already, and responses are to be generated"
            return RejectedRow(row.position, row.line, reason)
    kept = {name: value for name, value in row.values.items() if name not in RESPONSE_COLUMNS}
    return replace(row, values={**kept, "responses": [""] * count})


def reject_answered(rows: Iterator[SourceRow | Rejection]) -> Iterator[SourceRow | Rejection]:
    """Reject rows whose conversation ends with an assistant message: it is a response already."""
    for row in rows:
        if isinstance(row, SourceRow) and row.group.messages[-1].role == "assistant":
            yield row.reject("the conversation ends with an assistant message, and responses are to be generated")
        else:
            yield row
