"""Rows through pydantic, and from files that hold one JSON array."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from flip_reward.data.input import RawRow, Row
from flip_reward.data.readers import open_input
from flip_reward.errors import DataError


class RowModel(BaseModel):
    """A row of a benchmark. Columns that are not needed are not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class ChatMessage(RowModel):
    """One turn of a conversation."""

    role: str
    content: str


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[str], BeforeValidator(_listed)]
"""Several texts; one alone may stand without a list."""

Prompt = str | list[ChatMessage]


def plain_prompt(prompt: Prompt) -> str | list[dict[str, str]]:
    """Return a prompt as `Group.of` takes it."""
    return prompt if isinstance(prompt, str) else [message.model_dump() for message in prompt]


RowT = TypeVar("RowT", bound=RowModel)


def read_row(model: type[RowT], row: RawRow) -> RowT:
    """Check a row against its model.

    Raises:
        DataError: A column is missing or holds something else than it should.
    """
    try:
        return model.model_validate(dict(row.values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise DataError(f"no column {column!r}; the row has {', '.join(map(repr, row.values))}") from None
        raise DataError(f"{column!r}: {first['msg'].removeprefix('Value error, ')}") from None


def open_rows(source: str) -> Iterator[Row]:
    """Read the rows of a file, or of a data set on the hub.

    Args:
        source: Whatever `flip_reward.data.readers.open_input` takes, or a ".json" file that holds one array.

    Raises:
        DataError: It cannot be read.
        MissingDependencyError: The library that reads it is not installed.
    """
    path = Path(source)
    if path.suffix.lower() == ".json" and path.is_file():
        text = path.read_bytes()
        if text.lstrip().startswith(b"["):
            return read_json_array(text, source)
    return open_input(source).rows()


def read_json_array(text: bytes, source: str) -> Iterator[Row]:
    """Read rows from one JSON array of objects.

    Raises:
        DataError: It is none.
    """
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{source} is not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{source} is not an array of objects")
    return (RawRow(position, position + 1, row) for position, row in enumerate(rows))
