"""Training data from scored rows: `select_rows` for callers in Python, `select_file` for `flip-reward select`."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar, Unpack, overload

from flip_reward.data.added import free_names
from flip_reward.data.formats.columnar import merge_schemas
from flip_reward.data.frames import Table, open_frame, open_in_memory
from flip_reward.data.rows import Input
from flip_reward.data.tables import STANDARD_OUTPUT, Layout, check_output, check_overwrites, write_rows
from flip_reward.data.tables.survey import survey_rows
from flip_reward.errors import OptionError
from flip_reward.selection.scored import ScoredRows, open_scored, read_scored
from flip_reward.selection.select import (
    LeftOut,
    Pair,
    ScoredResponse,
    select_above,
    select_best_of_groups,
    select_pairs,
    select_top,
)
from flip_reward.settings import check_names

if TYPE_CHECKING:
    from pyarrow import Schema

TableT = TypeVar("TableT", bound=Table)
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is kept: one of four ways."""

    top: float | None = None
    threshold: float | None = None
    best_of_group: bool = False
    pairs: bool = False
    margin: float = 0.0

    def __post_init__(self) -> None:
        ways = {
            "top": self.top is not None,
            "threshold": self.threshold is not None,
            "best_of_group": self.best_of_group,
            "pairs": self.pairs,
        }
        numbers: dict[str, object] = {"top": self.top or 0, "threshold": self.threshold or 0, "margin": self.margin}
        for name, number in numbers.items():
            if not isinstance(number, Real):
                raise OptionError(f"--{name} is a number, and not {number!r}")
        if sum(ways.values()) != 1:
            raise OptionError("say what to keep, one of " + ", ".join(f"--{name.replace('_', '-')}" for name in ways))
        if self.margin and not self.pairs:
            raise OptionError("--margin is for --pairs")
        if self.top is not None and not 0 <= self.top <= 1:
            raise OptionError(
                f"--top is a share from 0 to 1, not {self.top:g}", hint="--top 0.5 keeps the better half"
            )
        if not self.margin >= 0 or math.isnan(self.threshold or 0):
            raise OptionError("--margin and --threshold are numbers, the former not below 0")

    def select(self, rows: ScoredRows) -> Iterator[ScoredResponse | Pair | LeftOut]:
        """Choose, in the order of the rows."""
        if self.top is not None:
            return select_top(rows.read, self.top)
        if self.threshold is not None:
            return select_above(rows.read, self.threshold)
        return select_pairs(rows.read, self.margin) if self.pairs else select_best_of_groups(rows.read)


@dataclass(frozen=True, slots=True)
class Selected:
    """What came of a selection."""

    kept: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many responses, or rows that cannot be read, by the reason; the most frequent one first."""
    remarks: Sequence[str] = ()
    """What had to be changed so that a file could hold the rows."""


def select_file(
    sources: Sequence[str],
    wanted: Wanted,
    output: Path = STANDARD_OUTPUT,
    left_out: Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    reward_column: str | None = None,
    group_by: str | None = None,
) -> Selected:
    """Write what is selected from a run or from scored files; each file appears whole or not at all.

    Rows are read once more for each thing that has to be known about them, so memory does not grow with them.
    """
    for path in (output, left_out):
        if path is not None:
            check_output(path)
            check_overwrites(path, sources)
    if left_out is not None and output.resolve() == left_out.resolve():
        raise OptionError(f"{output} cannot take both what is kept and what is left out")
    rows = open_scored(*sources, columns=columns, reward=reward_column, group_by=group_by)
    reasons: Counter[str] = Counter()
    kept = 0

    def read_kept() -> Iterator[Mapping[str, object]]:
        nonlocal kept
        kept = 0
        reasons.clear()
        for one in wanted.select(rows):
            if isinstance(one, LeftOut):
                reasons[one.reason] += 1
            else:
                kept += 1
                yield one.to_row() if isinstance(one, Pair) else rows.to_sft_row(one)

    schema = merge_schemas([source.schema for source in rows.inputs]) if rows.unchanged and not wanted.pairs else None
    remarks = _write(output, read_kept, schema, lambda: _lay_out(rows, wanted))
    reasons.update(_count_invalid(rows))
    if left_out is not None:
        remarks += _write(
            left_out,
            lambda: _read_left_out(rows, wanted),
            columns=lambda: (_say_why(rows.to_sft_row(one), "") for one in rows.read()),
        )
    return Selected(kept, dict(reasons.most_common()), remarks)


_UNREADABLE = "a row that cannot be read"


def _count_invalid(rows: ScoredRows) -> dict[str, int]:
    """Count the rows that cannot be read, and say why the first one cannot."""
    invalid = rows.read_invalid()
    first = next(invalid, None)
    if first is None:
        return {}
    where = f"{first.source}, line {first.line}"
    return {f"{_UNREADABLE} ({where}: {first.reason})": 1 + sum(1 for _ in invalid)}


def _read_left_out(rows: ScoredRows, wanted: Wanted) -> Iterator[Mapping[str, object]]:
    for one in wanted.select(rows):
        if isinstance(one, LeftOut):
            yield _say_why(rows.to_sft_row(one.response), one.reason)
    for invalid in rows.read_invalid():
        yield {"input": invalid.source, "line": invalid.line, "detail": invalid.reason, "left_out": _UNREADABLE}


def _say_why(row: Mapping[str, object], reason: str) -> dict[str, object]:
    return {**row, free_names(["left_out"], row)["left_out"]: reason}


def _lay_out(rows: ScoredRows, wanted: Wanted) -> Iterator[dict[str, object]]:
    """Lay out every response as if it were kept: what columns there are where none is."""
    return (Pair(one, one).to_row() if wanted.pairs else rows.to_sft_row(one) for one in rows.read())


_Read: TypeAlias = Callable[[], Iterator[Mapping[str, object]]]


def _write(path: Path, read: _Read, schema: Schema | None = None, columns: _Read = lambda: iter(())) -> list[str]:
    """Write rows; where there are none, those of `columns` still say what columns the file has."""
    parquet = path.name.lower().endswith(".parquet")
    names_itself = path == STANDARD_OUTPUT or ".jsonl" in path.suffixes  # so the rows need not be read for it
    source = replace(Input.in_memory("rows", read), schema=schema)
    survey = survey_rows([] if names_itself else [source], typed=parquet)
    if not (survey.names or names_itself):
        survey = survey_rows([Input.in_memory("rows", columns)], typed=parquet)
    rows = map(survey.fit, read()) if parquet else read()
    remarks = list(write_rows(path, rows, Layout(survey.names, survey.make_schema)))
    return remarks + [f"the column {name!r} holds values of several types: JSON text" for name in survey.mixed]


class SelectOptions(TypedDict, total=False):
    """What `select_rows` keeps, one of the first four, and how rows are read."""

    top: float | None
    """Keep this share of the responses, those with the highest rewards; among equal ones the first."""
    threshold: float | None
    """Keep the responses with at least this reward."""
    best_of_group: bool
    """Keep the best response of each group."""
    pairs: bool
    """Pair the best and the worst response of each group, as `prompt`, `chosen` and `rejected`."""
    margin: float
    """Of pairs: their rewards differ at least by this, and always by more than nothing."""
    group_by: str | None
    """Rows with the same value of this column form a group. Without it those with the same conversation do."""
    columns: Mapping[str, str] | None
    """Our column names to the rows', such as {"response": "answer"}."""
    reward_column: str | None
    """The column of the rewards, where it is not the one that scoring added last."""


@overload
def select_rows(scored: TableT, **options: Unpack[SelectOptions]) -> TableT: ...
@overload
def select_rows(
    scored: str | Path | Iterable[Mapping[str, object]], **options: Unpack[SelectOptions]
) -> list[dict[str, object]]: ...
def select_rows(scored: Any, **options: Unpack[SelectOptions]) -> object:
    """Select training data from scored rows: rows for supervised tuning as they came in, or pairs for DPO.

    How many responses were left out, and why, is logged at the level INFO.

    Args:
        scored: Rows with the columns that scoring adds: what `score_table`, or `score_sync` of rows gave, a file that
            `score_file` wrote, or its run folder.
        options: Those of `SelectOptions`.

    Returns:
        A table of the same kind for a table, a list of mappings for everything else. A response that was one of
        several in its row has a row of its own.

    Raises:
        DataError: There are no rewards, or it cannot be read.
        OptionError: An option is misspelt or has a wrong value, or not exactly one of `top`, `threshold`,
            `best_of_group` and `pairs` is given.

    Example:
        >>> from flip_reward import FlipReward, ScriptedEngine
        >>> rows = [{"prompt": "Name a fruit.", "response": text} for text in ("A fruit: a pear.", "Bread.")]
        >>> scored = FlipReward(ScriptedEngine()).score_sync(rows)
        >>> [row["response"] for row in select_rows(scored, best_of_group=True)]
        ['A fruit: a pear.']
        >>> [pair] = select_rows(scored, pairs=True, margin=0.1)
        >>> pair["chosen"], pair["rejected"]
        ('A fruit: a pear.', 'Bread.')
    """
    check_names(options, SelectOptions.__annotations__)
    given = dict(options)
    reading = {name: given.pop(ours, None) for name, ours in _READING.items()}
    wanted = Wanted(**given)  # type: ignore[arg-type]  # SelectOptions has their types
    frame = open_frame(scored)
    if frame is not None or isinstance(scored, str | Path):
        rows = open_scored(scored, **reading)  # type: ignore[arg-type]  # likewise
    else:
        rows = read_scored([open_in_memory(scored)], **reading)  # type: ignore[arg-type]  # likewise
    kept: list[ScoredResponse | Pair] = []
    reasons: Counter[str] = Counter()
    for one in wanted.select(rows):
        if isinstance(one, LeftOut):
            reasons[one.reason] += 1
        else:
            kept.append(one)
    reasons.update(_count_invalid(rows))
    for reason, count in reasons.most_common():
        _LOGGER.info("left out: %d %s", count, reason)
    if frame is not None and rows.unchanged and not wanted.pairs:
        return frame.take([one.place for one in kept if isinstance(one, ScoredResponse)])
    found = [one.to_row() if isinstance(one, Pair) else rows.to_sft_row(one) for one in kept]
    if frame is None:
        return found
    if found:
        return frame.make(found)
    empty = open_frame(frame.make(list(islice(_lay_out(rows, wanted), 1))))
    return frame.make([]) if empty is None else empty.take([])


_READING = {"columns": "columns", "reward": "reward_column", "group_by": "group_by"}
