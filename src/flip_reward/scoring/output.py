"""The output of a run: the user's rows, all of them and in order, with columns added.

Rows are read again from the inputs and meet their records by position, so nothing but an index of the records is in
memory. `read_scored_rows` gives each row with its scores, `write_output` makes a table of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import orjson

from flip_reward.core.score import Score
from flip_reward.data.added import added_columns, added_types, free_names, rejected_columns
from flip_reward.data.formats.columnar import merge_schemas
from flip_reward.data.grouping import Grouping
from flip_reward.data.groups import PlacedRow, place_rows
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip, skip_nothing
from flip_reward.data.shapes import Shape
from flip_reward.data.tables import Layout, check_output, check_parquet, write_rows, write_table
from flip_reward.data.tables.arrow import make_fields
from flip_reward.data.tables.push import check_push, push_table
from flip_reward.data.tables.survey import Survey, survey_rows
from flip_reward.scoring.record_index import LineIndex, RecordIndex
from flip_reward.scoring.records import Record, RecordLine
from flip_reward.scoring.run_folder import RECORDS, REJECTED, read_records_in_input_order

if TYPE_CHECKING:
    from pyarrow import Schema


@dataclass(frozen=True, slots=True)
class Output:
    """Where the result of a run goes, besides its folder."""

    path: Path | None = None
    """A file in one of the `FORMATS`, or `STANDARD_OUTPUT`."""
    only_scores: bool = False
    """Whether it holds the records alone, and not the user's rows."""
    push_to_hub: str | None = None
    """A data set on the Hugging Face hub that takes the user's rows too."""

    @property
    def takes_rows(self) -> bool:
        """Whether the user's rows go anywhere."""
        return self.push_to_hub is not None or (self.path is not None and not self.only_scores)

    def check(self, *, rows: int | None = None) -> None:
        """Make sure before a run that its output can be written at its end."""
        if self.path is not None:
            check_output(self.path, rows=rows)
        if self.push_to_hub is not None:
            check_push(self.push_to_hub)
            check_parquet()

    def survey(self, inputs: Sequence[Input], *, limit: int | None) -> Survey | None:
        """Look at the rows for their columns, where they go anywhere."""
        if not self.takes_rows:
            return None
        parquet = self.path is not None and self.path.name.lower().endswith(".parquet")
        survey = survey_rows(inputs, typed=parquet or self.push_to_hub is not None, limit=limit)
        self.check(rows=survey.rows)
        return survey


@dataclass(frozen=True, slots=True)
class RunRows:
    """The rows of a run, which can be read again."""

    inputs: Sequence[Input]
    shape: Shape
    grouping: Grouping | None = None
    limit: int | None = None
    parts: Sequence[str] = ()
    """The names of what its rewards are made of."""
    is_elsewhere: Skip = skip_nothing
    """Whether a group is in another shard, by its position."""

    def place(self) -> Iterator[PlacedRow]:
        """Read all rows as they stand in the inputs."""
        return place_rows(
            self.inputs, self.shape, grouping=self.grouping, limit=self.limit, is_elsewhere=self.is_elsewhere
        )

    def read_scored(self, folder: Path) -> Iterator[RowResult]:
        """Read all rows with the scores that a run folder has for them."""
        return read_scored_rows(folder, self.place())


@dataclass(frozen=True, slots=True)
class RowResult:
    """A user's row and the scores of the responses in it."""

    placed: PlacedRow
    scores: tuple[Score | None, ...]
    """None for a response that is not scored yet."""
    group_size: int = 0
    """How many responses its group has: more, where a group is made of several rows."""
    rejected: str | None = None
    """Why the row was not scored."""

    @property
    def values(self) -> Mapping[str, object]:
        """The user's columns. A row that could not be read has none."""
        return {} if isinstance(self.placed.row, InvalidRow) else self.placed.row.values


class AddedColumns(Protocol):
    """What is added to rows."""

    @property
    def types(self) -> Mapping[str, object]:
        """The columns in their order, with types as annotations have them."""
        ...

    def add(self, row: RowResult) -> Mapping[str, object] | None:
        """Return the columns of a row; None leaves the row out."""
        ...


class ScoreColumns:
    """The reward, the outcome and the other fields of each score; `parts` are what it is made of."""

    def __init__(self, shape: Shape, parts: Sequence[str] = ()) -> None:
        self._shape, self._parts = shape, parts
        self.types = added_types(shape, parts)

    def add(self, row: RowResult) -> Mapping[str, object]:
        """Lay out the scores of a row, or why it has none."""
        if row.rejected is not None:
            return rejected_columns(row.rejected, self._shape, self._parts)
        return added_columns(row.scores, self._shape, self._parts)


def read_scored_rows(folder: Path, placed: Iterable[PlacedRow]) -> Iterator[RowResult]:
    """Read the rows of a run with their scores, in the order of the inputs.

    Args:
        folder: The run folder.
        placed: All rows of its inputs; see `place_rows`.
    """
    with ExitStack() as held:
        records = held.enter_context(RecordIndex(folder / RECORDS))
        reasons = held.enter_context(closing(_Reasons(folder)))
        last: tuple[int, str | None] = (-1, None)
        for row in placed:
            if row.group is None:
                yield RowResult(row, (), rejected=_say(row))
                continue
            position = row.group.position
            found = [records.find(position, row.first + index) for index in range(row.count)]
            if not any(found) and last[0] != position:
                last = position, reasons.find(row)  # of a group of several rows the first one is listed
            scores = tuple(None if record is None else record.score for record in found)
            size = next((record.group_size for record in found if record), row.count)
            yield RowResult(row, scores, size, last[1] if last[0] == position else None)


def _say(row: PlacedRow) -> str:
    reason = row.rejected.reason if row.rejected else ""
    # Nothing else tells which row it was.
    return f"{row.source}, line {row.row.line}: {reason}" if isinstance(row.row, InvalidRow) else reason


class _Reasons:
    """Why rows were rejected that can be read: an id or a conversation that the reward cannot use."""

    def __init__(self, folder: Path) -> None:
        self._sources: dict[str, int] = {}
        path = folder / REJECTED
        self._lines = LineIndex(path, self._read_key) if path.exists() else None

    def _key(self, source: str, line: int) -> int:
        return self._sources.setdefault(source, len(self._sources)) << 40 | line

    def _read_key(self, line: bytes, _number: int) -> int:
        fields = orjson.loads(line)
        return self._key(fields["input"], fields["line"])

    def find(self, row: PlacedRow) -> str | None:
        line = self._lines and self._lines.find(self._key(row.source, row.row.line))
        return str(orjson.loads(line)["reason"]) if line else None

    def close(self) -> None:
        if self._lines:
            self._lines.close()


def settle(shape: Shape, folder: Path, place: Callable[[], Iterable[PlacedRow]]) -> Shape:
    """Return the shape with `many` where any row has not as many responses as the shape says."""
    if shape.many:
        return shape
    with RecordIndex(folder / RECORDS) as records:
        one_each = records.largest_group == 1 and not shape.candidate_columns
    expected = len(shape.candidate_columns) or 1
    if one_each or all(row.group is None or row.count == expected for row in place()):
        return shape
    return replace(shape, many=True)


def write_output(
    output: Output, survey: Survey, rows: Callable[[], Iterable[RowResult]], added: AddedColumns
) -> list[str]:
    """Write rows with what is added to where they go, and return what is to be said about it.

    A file appears whole or not at all.
    """
    names = free_names(added.types, survey.names)
    said = []
    if renamed := [name for name, free in names.items() if name != free]:
        calls = ", ".join([f"{name} is {names[name]}" for name in renamed])
        said.append(f"the rows have columns of these names, so others are added: {calls}")
    layout = Layout([*survey.names, *names.values()], lambda: _make_schema(survey, added, names))

    def write(path: Path) -> None:
        parquet = path.name.lower().endswith(".parquet")
        said.extend(write_rows(path, _join(rows(), added, names, survey if parquet else None), layout))
        if parquet:
            said.extend(f"the column {name!r} holds values of several types: JSON text" for name in survey.mixed)

    if output.path is not None and not output.only_scores:
        write(output.path)
    if output.push_to_hub is not None:
        with TemporaryDirectory(prefix="flip-reward-") as folder:
            table = Path(folder) / "rows.parquet"
            write(table)
            said.append(f"pushed to {push_table(table, output.push_to_hub)}")
    return list(dict.fromkeys(said))


def _join(
    rows: Iterable[RowResult], added: AddedColumns, names: Mapping[str, str], survey: Survey | None
) -> Iterator[dict[str, object]]:
    for row in rows:
        columns = added.add(row)
        if columns is not None:
            values = row.values if survey is None else survey.fit(row.values)
            yield {**values, **{free: columns.get(name) for name, free in names.items()}}


def _make_schema(survey: Survey, added: AddedColumns, names: Mapping[str, str]) -> Schema:
    import pyarrow as pa

    return pa.schema(
        [*survey.make_fields(), *make_fields({names[name]: kind for name, kind in added.types.items()})],
        metadata=survey.metadata,
    )


def write_scores(output: Output, survey: Survey | None, folder: Path, rows: RunRows) -> list[str]:
    """Write the output of a run folder: the records alone, or the user's rows with their scores.

    `survey` is what `Output.survey` found about the rows.
    """
    if output.path is not None and output.only_scores:
        found = read_records_in_input_order(folder)
        records = (record for record in found if rows.limit is None or record.row < rows.limit)
        write_table(output.path, map(Record.lay_out, records), RecordLine)
    if survey is None:
        return []
    return write_output(output, survey, lambda: rows.read_scored(folder), _find_columns(folder, rows))


def _find_columns(folder: Path, rows: RunRows) -> ScoreColumns:
    return ScoreColumns(settle(rows.shape, folder, rows.place), rows.parts)


def open_output(folder: Path, rows: RunRows) -> tuple[Input, Mapping[str, str]]:
    """Return the rows that `write_scores` would write as an input, and how the added columns are called there."""
    survey = survey_rows(rows.inputs, typed=False, limit=rows.limit)
    added = _find_columns(folder, rows)
    names = free_names(added.types, survey.names)

    def read(skip: Skip) -> Iterator[Row]:
        for position, row in enumerate(rows.read_scored(folder)):
            if skip(position):
                continue
            if row.rejected is not None:
                yield InvalidRow(position, row.placed.row.line, row.rejected, row.placed.source)
            else:
                [values] = _join([row], added, names, None)
                yield RawRow(position, row.placed.row.line, values)

    typed = merge_schemas([source.schema for source in rows.inputs]) is not None
    return Input(folder.name, read, schema=_make_schema(survey, added, names) if typed else None), names
