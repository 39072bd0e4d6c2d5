"""Pairs of instruction and response from files and the hub, and the prompts of evaluations to keep out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from flip_reward.core.conversation import Group
from flip_reward.core.response import select_target, visible_answer
from flip_reward.core.score import Outcome
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow, Row
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.errors import ConversationError, DataError
from flip_reward.evaluation.benchmarks.catalogue import BENCHMARKS, load_benchmark
from flip_reward.training.inferrer.near_duplicates import Words

_MOST_BAD_ROWS_SHOWN = 3


class Removal(StrEnum):
    """Why a row is left out."""

    BAD_ROW = "bad_row"
    """It cannot be read, or lacks a column."""
    NO_ANSWER = "no_answer"
    """Its response is empty, or its thinking does not end."""
    EVALUATED = "evaluated"
    """Its prompt is in an evaluation, ignoring case and punctuation."""
    NEAR_EVALUATED = "near_evaluated"
    """Its prompt is close to one in an evaluation."""
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    """Prompt and response together are close to those of an earlier row."""
    TOO_LONG = "too_long"
    UNUSABLE = "unusable"
    """The tokenizer or the chat template refuses it."""


@dataclass(frozen=True)
class TrainingPair:
    """One response and the instruction it answers, as a group with this response alone."""

    group: Group

    @property
    def instruction(self) -> str:
        """The instruction, as it is learned."""
        return select_target(self.group.messages).instruction.strip()

    @property
    def response(self) -> str:
        """The response, with its thinking section if it has one."""
        return self.group.responses[0]

    @cached_property
    def instruction_words(self) -> Words:
        """The words of the instruction."""
        return Words.of(self.instruction)

    @cached_property
    def words(self) -> Words:
        """The words of instruction and response."""
        return Words.of(f"{self.instruction}\n{self.response}")


@dataclass(frozen=True, slots=True)
class SourcePairs:
    """The pairs of one source, in its order."""

    name: str
    pairs: list[TrainingPair]
    weight: float = 1.0
    """How often an epoch has each pair."""
    rows: int = 0
    """How many rows the source has."""
    removed: Counter[Removal] = field(default_factory=Counter)
    """How many were left out, and why."""
    complaints: list[str] = field(default_factory=list)
    """About its first bad rows."""


def read_pairs(source: Input, *, columns: Mapping[str, str] | None = None, weight: float = 1.0) -> SourcePairs:
    """Read the pairs of a source. A row with several responses makes several."""
    pairs: list[TrainingPair] = []
    removed: Counter[Removal] = Counter()
    complaints: list[str] = []
    shape, rows = find_shape([source], columns), 0
    for row in source.rows():
        rows += 1
        try:
            if isinstance(row, InvalidRow):
                raise DataError(row.reason)  # noqa: TRY301 - told like the others
            group = shape.to_group(row.values, str(row.position))
            _check_instruction(group)
        except DataError as error:
            removed[Removal.BAD_ROW] += 1
            if len(complaints) < _MOST_BAD_ROWS_SHOWN:
                complaints.append(f"{source.name}, line {row.line}: {error}")
            continue
        for index, response in enumerate(group.responses):
            if isinstance(visible_answer(response), Outcome):
                removed[Removal.NO_ANSWER] += 1
            else:
                pairs.append(TrainingPair(group.only([index])))
    if not rows:
        raise DataError(f"{source.name} has no rows")
    return SourcePairs(source.name, pairs, weight, rows, removed, complaints)


def _check_instruction(group: Group) -> None:
    try:
        instruction = select_target(group.messages).instruction
    except ConversationError as error:
        raise DataError(str(error)) from error
    if not instruction.strip():
        raise DataError("the instruction is empty")


def read_evaluation_prompts(source: str) -> list[str]:
    """Read what an evaluation asks: its prompts, and every user turn of conversations.

    The source is a published benchmark, or anything that `open_input` takes, in any shape that `find_shape` knows. A
    row without a prompt is an error, since an unknown prompt cannot be kept out of the training.
    """
    if source in BENCHMARKS:
        groups = [item.group for item in load_benchmark(source).items]
    else:
        opened = open_input(source)
        shape = find_shape([opened], need=Need.PROMPTS)
        groups = [_read_prompt(row, shape, source) for row in opened.rows()]
    return [turn.content for group in groups for turn in group.messages if turn.role == "user"]


def _read_prompt(row: Row, shape: Shape, source: str) -> Group:
    try:
        if isinstance(row, InvalidRow):
            raise DataError(row.reason)  # noqa: TRY301 - told like the others
        group = shape.to_group(row.values, "")
        _check_instruction(group)
    except DataError as error:
        raise DataError(f"{source}, line {row.line}: {error}", hint=error.hint) from error
    return group
