"""Scored rows, each response with its reward: those of a run, or as `-o` writes them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import orjson

from flip_reward.core.conversation import Group, Message
from flip_reward.data.added import ADDED, free_names
from flip_reward.data.frames import Table, open_frame
from flip_reward.data.grouping import name_value
from flip_reward.data.groups import PlacedRow, place_rows
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.data.shapes.columns import Column, list_columns
from flip_reward.data.tables.sheets import restore_text
from flip_reward.errors import DataError, OptionError
from flip_reward.scoring.folders import CANDIDATES, MANIFEST, recognise
from flip_reward.scoring.job import reopen_inputs, reopen_rows
from flip_reward.scoring.manifest import Manifest
from flip_reward.scoring.output import RunRows, open_output
from flip_reward.scoring.record_index import LineIndex
from flip_reward.scoring.rescore import find_origin
from flip_reward.selection.candidates import Candidate
from flip_reward.selection.policy import open_for_candidates
from flip_reward.selection.select import ScoredResponse, Values

REWARD = "reward"
_CHOICE = ("rank", "chosen", "chosen_response")
_ROWS_SEEN = 100


Names: TypeAlias = Mapping[str, tuple[str, ...]]
"""Our names to the rows': one column, or one for each candidate. `reward` is always among them."""


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Scored rows that can be read again."""

    inputs: Sequence[Input]
    shape: Shape
    names: Names
    """How the columns that scores added are called; see `find_names`."""
    columns: frozenset[str] = frozenset()
    """The columns of the rows, as far as the first ones show them."""
    group_by: str | None = None
    """Rows with the same value of this column form a group, as far as they have the same conversation; one without a
    value is alone. None: all with the same conversation do."""

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
        place = -1
        for source in self.inputs:
            for row in source.rows():
                place += 1
                if isinstance(row, InvalidRow):
                    yield row if row.source else replace(row, source=source.name)
                    continue
                try:
                    group = self.shape.to_group(row.values, "")
                    rewards = read_rewards(
                        self._pick(row.values, REWARD), self.names[REWARD][0], len(group.responses)
                    )
                except DataError as error:
                    yield InvalidRow(row.position, row.line, str(error), source.name)
                    continue
                key = None if self.group_by is None else name_value(row.values.get(self.group_by)) or place
                outcomes = self._pick(row.values, "outcome")
                for index, reward in enumerate(rewards):
                    outcome = _own(outcomes, index, len(rewards))
                    said = f"not scored: {outcome}" if isinstance(outcome, str) and outcome else "not scored"
                    yield ScoredResponse(row.values, group, index, reward, key, said, place)

    @property
    def unchanged(self) -> bool:
        """Whether rows hold one response each, so that they come out as they came in."""
        return not self.shape.many and not self.shape.candidate_columns

    def _pick(self, values: Values, ours: str) -> object:
        """Return what a score added to a row: a list where each candidate has a column."""
        cells = [values.get(name) for name in self.names.get(ours, (ours,))]
        return cells if len(cells) > 1 else _open_list(cells[0])

    def to_sft_row(self, response: ScoredResponse) -> dict[str, object]:
        """Return the row of a response as it came in; of one among several, with what belongs to it alone.

        That is `response`, or `messages` where the columns of the responses hold the conversation too.
        """
        values, group = response.values, response.group
        count, sides = len(group.responses), self.shape.candidate_columns
        if count == 1 and self.unchanged:
            return dict(values)
        gone = {name for names in self.names.values() for name in names} | {*sides}
        if not sides:
            gone |= {column.name for column in self.shape.alternatives}
        row = {name: value for name, value in values.items() if name not in gone}
        names = free_names([ours for ours in self.names if ours not in _CHOICE], self.columns - gone)
        text: dict[str, object] = {"response": response.text}
        if not self._asks_alike({**row, **text}, group):
            turns = [*group.messages, Message("assistant", response.text)]
            text = {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}
        scores = {free: _own(self._pick(values, ours), response.index, count) for ours, free in names.items()}
        return {**row, **text, **scores}

    def _asks_alike(self, row: Values, group: Group) -> bool:
        shape = replace(self.shape, candidate_columns=(), alternatives=(Column("response"),), whole=None, many=False)
        try:
            return shape.to_group(row, "").messages == group.messages
        except DataError:
            return False


def open_scored(
    *sources: str | Path | Table,
    columns: Mapping[str, str] | None = None,
    reward: str | None = None,
    group_by: str | None = None,
) -> ScoredRows:
    """Open scored rows, so that training data can be selected from them.

    Args:
        sources: A run folder; or files as `-o` and `score_file` write them, or tables as `RewardModel.score_table`
            gives them back.
        columns: Our column names to theirs, where they were given for scoring.
        reward: The column of the rewards, where it is not the one that scoring added last.
        group_by: Rows with the same value of this column form a group. By default those with the same prompt do.

    Raises:
        DataError: They cannot be read, or have no rewards.
        OptionError: There is no such column, or a run stands among other sources.
        RunError: The rows of the run are gone.

    Example:
        >>> import pandas as pd
        >>> from flip_reward.selection import Pair, select_pairs
        >>> table = pd.DataFrame({"prompt": ["Say hi."] * 2, "response": ["Hm.", "Hi!"], "reward": [0.1, 0.8]})
        >>> [pair] = [found for found in select_pairs(open_scored(table).read) if isinstance(found, Pair)]
        >>> pair.chosen.text, pair.to_row()["rejected"]
        ('Hi!', 'Hm.')
    """
    runs = [Path(source) for source in sources if isinstance(source, str | Path) and recognise(Path(source))]
    if runs and len(sources) == 1:
        return _open_run(runs[0], columns, reward=reward, group_by=group_by)
    if runs:
        raise OptionError(f"{runs[0]} is a run: give it alone", hint="or give files, as -o writes them")
    return read_scored([open_rows(source) for source in sources], columns, reward=reward, group_by=group_by)


def read_scored(
    inputs: Sequence[Input],
    columns: Mapping[str, str] | None = None,
    *,
    reward: str | None = None,
    group_by: str | None = None,
) -> ScoredRows:
    """Find out how rows are read that `-o` wrote."""
    shape = find_shape(inputs, columns)
    names: Names = {REWARD: (REWARD,)}
    for source in inputs:
        if known := _names_of(source):
            names = find_names(known, shape, reward, source.name)
            _check_group_by(group_by, known)
    shown = frozenset(name for source in inputs for name in _names_of(source))
    return ScoredRows(inputs, shape, names, shown, group_by)


def _open_run(
    folder: Path, columns: Mapping[str, str] | None, *, reward: str | None, group_by: str | None
) -> ScoredRows:
    if columns:
        raise OptionError("--columns: a run knows its columns", hint="leave it out")
    origin = find_origin(folder)
    rows = _reopen_generated(origin) if (origin / CANDIDATES).exists() else reopen_rows(origin)
    output, names = open_output(folder, rows)
    known = _names_of(output)
    _check_group_by(group_by, known)
    if reward is None:
        sides = rows.shape.candidate_columns
        found: Names = {
            ours: (names[ours],) if ours in names else tuple(names[f"{ours}_{side}"] for side in sides)
            for ours in ADDED
        }
    else:
        found = find_names(known, rows.shape, reward, str(folder))
    if rows.grouping is not None:
        group_by = group_by or rows.grouping.column
    return ScoredRows([output], rows.shape, found, frozenset(known), group_by)


def open_rows(source: str | Path | Table) -> Input:
    """Open rows as a user or `-o` wrote them; what kept texts of CSV from being run as formulas is taken off."""
    frame = open_frame(source)
    if frame is not None:
        return Input.in_memory("the table", frame.rows)
    opened = open_input(str(source))
    if not re.search(r"\.[ct]sv(\.\w+)?$", str(source), re.IGNORECASE):
        return opened
    return replace(opened, read=lambda skip: map(_restore, opened.read(skip)))


def _restore(row: Row) -> Row:
    """Undo what was done to keep cells from being run as formulas."""
    if isinstance(row, InvalidRow):
        return row
    values = {name: restore_text(value) if isinstance(value, str) else value for name, value in row.values.items()}
    return replace(row, values=values)


@dataclass(frozen=True, slots=True)
class _GeneratedRows(RunRows):
    """The rows of a run whose responses a policy wrote, which stand in `responses`."""

    prompts: Shape = Shape()
    """How the inputs are read, which hold no responses."""
    path: Path = Path()
    count: int = 0

    def place(self) -> Iterator[PlacedRow]:
        with closing(LineIndex(self.path, _read_key)) as lines:
            for row in place_rows(self.inputs, self.prompts, grouping=self.grouping, limit=self.limit):
                if row.group is None or isinstance(row.row, InvalidRow):
                    yield row
                    continue
                found = [lines.find(_key(row.group.position, index)) for index in range(self.count)]
                texts = tuple([Candidate.from_line(line).response or "" if line else "" for line in found])
                group = replace(row.group, group=replace(row.group.group, responses=texts))
                values = {**row.row.values, "responses": list(texts)}
                yield replace(row, row=replace(row.row, values=values), group=group, count=self.count)


def _key(row: int, index: int) -> int:
    return row << 24 | index


def _read_key(line: bytes, _number: int) -> int | None:
    try:
        candidate = Candidate.from_line(line)
    except ValueError:
        return None
    return _key(candidate.row, candidate.index)


def _reopen_generated(folder: Path) -> RunRows:
    configuration = Manifest.read(folder / MANIFEST).configuration
    inputs = [open_for_candidates(source) for source in reopen_inputs(folder)]
    found = find_shape(inputs, configuration.columns, need=Need.PROMPTS)
    count = int(configuration.settings.get("generate") or 0)
    read = replace(
        found, prompts_only=False, candidate_columns=(), alternatives=(Column("responses"),), whole=None, many=True
    )
    return _GeneratedRows(inputs, read, configuration.grouping, prompts=found, path=folder / CANDIDATES, count=count)


def _names_of(source: Input) -> Counter[str]:
    """Count in how many of the first rows each column is, in their order."""
    rows = (row.values for row in islice(source.rows(), _ROWS_SEEN) if isinstance(row, RawRow))
    return Counter(name for values in rows for name in values)


def _check_group_by(group_by: str | None, known: Iterable[str]) -> None:
    if group_by is not None and group_by not in known:
        hint = list_columns(known, "the columns are")
        raise OptionError(f"--group-by: there is no column {group_by!r}", hint=hint)


def find_names(known: Mapping[str, int], shape: Shape, reward: str | None, source: str) -> Names:
    """Find out what the columns that scores added are called.

    Of several that could be one it is the last, since they are added at the end, among those that most rows have.

    Args:
        known: The columns, and how many rows have each.
        shape: How the rows are read.
        reward: The column of the rewards, where the user named it.
        source: What the rows are called.

    Example:
        >>> find_names(
        ...     {"prompt": 1, "response": 1, "reward": 1, "flip_reward": 1, "outcome": 1}, Shape(), None, "rows"
        ... )
        {'reward': ('flip_reward',), 'outcome': ('outcome',)}
    """
    if not isinstance(reward, str | None):
        raise OptionError(f"--reward-column: the name of a column is a text, and not {reward!r}")
    read = {*shape.candidate_columns, *(name for column in shape.conversations for name in column.needs)}
    names: dict[str, tuple[str, ...]] = {}
    for ours in (*ADDED, *_CHOICE):
        wanted = reward if ours == REWARD else None
        each = [
            _find_last(known, f"{ours}_{side}", wanted and f"{wanted}_{side}") for side in shape.candidate_columns
        ]
        found = [name for name in each if name] if each and all(each) else [_find_last(known, ours, wanted)]
        columns = tuple(name for name in found if name and name not in read)
        if columns:
            names[ours] = columns
    if REWARD not in names:
        raise DataError(
            f"{source} has no column {reward or REWARD!r}; {list_columns(known, 'it has')}",
            hint="score it first, with -o FILE, or name the column with --reward-column",
        )
    return names


def _find_last(known: Mapping[str, int], ours: str, wanted: str | None) -> str | None:
    pattern = re.compile(re.escape(wanted) if wanted else rf"(?:flip_(?:\d+_)?)?{re.escape(ours)}")
    found = [name for name in known if pattern.fullmatch(name)]
    return max(reversed(found), key=known.__getitem__, default=None)


def read_rewards(value: object, column: str, count: int) -> list[float | None]:
    """Read the rewards of a row's responses: a number, or a list.

    Text, as in CSV, is read as the number or the JSON list that it spells. An empty cell is no reward.

    Example:
        >>> read_rewards("[0.5, null]", "reward", 2)
        [0.5, None]
    """
    found = _parse(value, column)
    rewards = found if isinstance(found, list) else [found]
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


def _open_list(value: object) -> object:
    """Return the list that a cell of a table without lists spells."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return orjson.loads(value)
        except ValueError:
            return value
    return value


def _own(value: object, index: int, count: int) -> object:
    """Return what belongs to one of several responses."""
    return value[index] if isinstance(value, list) and len(value) == count else value
