"""The rows of a recipe: those to learn from, and those that are held out."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow
from flip_reward.data.shapes import Need, find_shape
from flip_reward.errors import DataError
from flip_reward.scoring.manifest import InputIdentity
from flip_reward.training.grpo.recipe import GrpoData
from flip_reward.training.prompts.rows import PromptRow, convert_rows, holds_training_rows, read_rows

_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class GrpoRows:
    """The rows of a training."""

    train: Sequence[PromptRow]
    held_out: Sequence[PromptRow]
    """None of their instructions is in `train`."""
    identities: Sequence[InputIdentity]
    """The names and hashes of the sources."""
    left_out: int = 0
    """How many rows could not be used."""
    read_as: Sequence[str] = ()
    """In words, how sources were read, where that had to be found out."""

    @property
    def sha256(self) -> str:
        """A hash of all rows in their order."""
        digest = hashlib.sha256()
        for row in (*self.train, *self.held_out):
            digest.update(orjson.dumps(row.to_columns(), option=orjson.OPT_SORT_KEYS))
        return digest.hexdigest()


def prepare_rows(data: GrpoData, reward: str = "general-flip") -> GrpoRows:
    """Read the rows of a recipe, and hold some of them out. Prompts that name no reward get the one given."""
    generator = random.Random(data.seed)  # noqa: S311 - repeatable on purpose
    source = open_input(data.source, encoding=data.encoding)
    read_as: list[str] = []
    rows, left_out = _read(source, data, reward, read_as)
    sources = [source]
    if data.held_out_source is not None:
        other = open_input(data.held_out_source, encoding=data.encoding)
        sources.append(other)
        held_out, more_left_out = _read(other, data, reward, read_as)
        left_out += more_left_out
    else:
        held_out = _draw_held_out(rows, data.held_out, generator)
    held_out = _draw(held_out, data.held_out_rows, generator)
    held_out_texts = {row.instruction for row in held_out}
    train = _draw([row for row in rows if row.instruction not in held_out_texts], data.rows, generator)
    if not train:
        hint = "all its prompts are held out; name another data.held_out_source" if rows else None
        raise DataError(f"{data.source} has no row to learn from", hint=hint)
    identities = [InputIdentity(name=one.name, fingerprint=one.fingerprint()) for one in sources]
    return GrpoRows(train, held_out, identities, left_out, read_as)


def _read(source: Input, data: GrpoData, reward: str, read_as: list[str]) -> tuple[list[PromptRow], int]:
    found: Iterable[PromptRow | InvalidRow]
    if data.switch_to is None and not data.columns and holds_training_rows(source):
        found = read_rows(source)
    else:
        shape = find_shape([source], data.columns, need=Need.PROMPTS)
        if shape.found:
            read_as.append(f"{source.name} is read as {shape.description}")
        found = convert_rows(source, data.switch_to or reward, shape)
    rows: list[PromptRow] = []
    bad: list[InvalidRow] = []
    for row in found:
        if isinstance(row, InvalidRow):
            bad.append(row)
        else:
            rows.append(row)
    if bad and not data.skip_bad_rows:
        shown = "; ".join(f"line {row.line}: {row.reason}" for row in bad[:_MOST_SHOWN])
        raise DataError(
            f"{source.name} has {len(bad)} bad rows of {len(bad) + len(rows)}: {shown}",
            hint="'flip-reward data check' lists them all, and data.skip_bad_rows=true leaves them out",
        )
    return rows, len(bad)


def _draw_held_out(rows: Sequence[PromptRow], share: float, generator: random.Random) -> list[PromptRow]:
    """Draw a share of the distinct instructions, with all their rows."""
    instructions = list(dict.fromkeys(row.instruction for row in rows))
    drawn = set(generator.sample(instructions, round(share * len(instructions))))
    return [row for row in rows if row.instruction in drawn]


def _draw(rows: Sequence[PromptRow], count: int | None, generator: random.Random) -> list[PromptRow]:
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[place] for place in sorted(generator.sample(range(len(rows)), count))]
