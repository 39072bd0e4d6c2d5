"""Rows of files -> prompts with their genuine responses, and which of these are preferred where rows say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from flip_reward.audit.prompts import AuditPrompt
from flip_reward.core.response import select_target
from flip_reward.core.score import Outcome
from flip_reward.data.grouping import FoundGrouping, UniqueIds, find_grouping
from flip_reward.data.groups import SourceRow, place_rows
from flip_reward.data.rows import Input, InvalidRow, RawRow
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.data.shapes.known import Better
from flip_reward.errors import ConversationError, DataError
from flip_reward.evaluation.benchmarks.base import list_bad_rows

ReadAnswer = Callable[[str], str | Outcome]
"""A response -> its visible answer, or why there is none."""


@dataclass(frozen=True, slots=True)
class GenuineData:
    """What rows hold: prompts without attacked texts."""

    prompts: tuple[AuditPrompt, ...]
    bad_rows: tuple[InvalidRow, ...]
    """Those that were left out, where that was asked for."""
    unlabelled: int
    """Prompts whose rows should say which response is better, and do not."""
    shape: Shape
    groups: FoundGrouping


@dataclass(slots=True)
class _Gathered:
    """The rows of a prompt."""

    first: SourceRow
    responses: list[str] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)


def read_genuine(
    inputs: Sequence[Input],
    read: ReadAnswer,
    *,
    columns: Mapping[str, str] | None = None,
    group_by: str | None = None,
    limit: int | None = None,
    skip_bad_rows: bool = False,
) -> GenuineData:
    """Read the first `limit` prompts of some inputs.

    Rows form groups as they do when they are scored; those that hold one response and a label each are joined by
    their conversation.

    Raises:
        DataError: A column is missing, no prompt has a response, or rows cannot be used and are not to be skipped.
    """
    shape = _find_shape(inputs, columns)
    labelled = shape.preference is not None and shape.preference.better is Better.LABELLED
    by_conversation = labelled and group_by is None
    groups = FoundGrouping() if by_conversation else find_grouping(inputs, shape, group_by)
    gathered: dict[object, _Gathered] = {}
    bad: list[InvalidRow] = []
    count = 0
    for row in place_rows(inputs, shape, grouping=groups.grouping):
        count += 1
        if row.group is None or isinstance(row.row, InvalidRow):
            bad += [row.rejected] if row.rejected else []
            continue
        group = row.group.group
        key: object = group.messages if by_conversation else row.group.position
        if key not in gathered and limit is not None and len(gathered) == limit:
            if by_conversation or groups.grouping:
                continue  # its later rows may be another prompt's
            break
        one = gathered.setdefault(key, _Gathered(row.group))
        one.responses += group.responses
        one.labels += _read_labels(shape, row.row)
    prompts = []
    with closing(UniqueIds()) as ids:
        for one in gathered.values():
            fault = _find_fault(one, read)
            if fault:
                bad.append(one.first.reject(fault))
            else:
                prompts.append(_make_prompt(one, ids))
    names = ", ".join(source.name for source in inputs)
    if bad and not skip_bad_rows:
        raise list_bad_rows(names, bad, count)
    if not prompts:
        raise DataError(f"{names}: there are no prompts with responses")
    unlabelled = sum(prompt.chosen is None for prompt in prompts) if shape.preference else 0
    return GenuineData(tuple(prompts), tuple(bad), unlabelled, shape, groups)


def _find_shape(inputs: Sequence[Input], columns: Mapping[str, str] | None) -> Shape:
    """Find out how rows are read, with which response is better where they say so."""
    try:
        return find_shape(inputs, columns, need=Need.PREFERENCES)
    except DataError:
        return find_shape(inputs, columns)


def _read_labels(shape: Shape, row: RawRow) -> tuple[bool, ...]:
    """Say of each response of a row whether it is preferred; nothing where the row does not say so, as in a tie."""
    try:
        return shape.choose(row.values) if shape.preference else ()
    except DataError:
        return ()


def _find_fault(one: _Gathered, read: ReadAnswer) -> str:
    """Say why nothing can be audited with a prompt; empty where something can."""
    try:
        instruction = select_target(one.first.group.messages).instruction
    except ConversationError as error:
        return str(error)
    if not instruction or instruction.isspace():
        return "the instruction is empty"
    if all(isinstance(read(response), Outcome) for response in one.responses):
        return "there is no response with an answer"
    return ""


def _make_prompt(one: _Gathered, ids: UniqueIds) -> AuditPrompt:
    group, labels = one.first.group, tuple(one.labels)
    return AuditPrompt(
        id=ids.claim(group.id, row=one.first.position),
        messages=group.messages,
        genuine=tuple(one.responses),
        chosen=labels if len(labels) == len(one.responses) else None,
        attacked=(),
    )
