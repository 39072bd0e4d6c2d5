"""Prompts -> the table of their words that the similarity "f1-idf" weighs by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from flip_reward.core.idf.table import FIRST_BYTES, WordTable, count_words, parse_table
from flip_reward.core.response import select_target
from flip_reward.core.tokens import Normalizer
from flip_reward.data.groups import SourceRow, read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.shapes import Need, find_shape
from flip_reward.errors import ConversationError, DataError


def load_words(source: str, normalizer: Normalizer) -> WordTable:
    """Read a table of words, or count the words of prompts: the last user turns of anything that can be scored.

    Raises:
        DataError: It cannot be read; it has words of another normaliser, or too few prompts.
    """
    content = _read_table(Path(source))
    words = count_words(read_instructions([source]), normalizer) if content is None else parse_table(content)
    if words.normalizer.name != normalizer.name:
        raise DataError(f"the words in {source} are {words.normalizer.name}, not {normalizer.name}")
    return words


def _read_table(path: Path) -> bytes | None:
    """Return the content of a file that holds a table of words."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        if file.read(len(FIRST_BYTES)) == FIRST_BYTES:
            return FIRST_BYTES + file.read()
    return None


def read_instructions(sources: Iterable[str], *, encoding: str | None = None) -> Iterator[str]:
    """Read the last user turn of every row of inputs; rows without one are passed over."""
    for source in sources:
        opened = open_input(source, encoding=encoding)
        for row in read_sources([opened], find_shape([opened], need=Need.PROMPTS)):
            with suppress(ConversationError):
                if isinstance(row, SourceRow):
                    yield select_target(row.group.messages).instruction
