"""What columns the rows of inputs have, and of which types: a look at all rows before a table is made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from flip_reward.data.formats.columnar import merge_schemas
from flip_reward.data.rows import Input, RawRow
from flip_reward.data.tables.arrow import ColumnType, in_batches, to_json_text
from flip_reward.errors import DataError

if TYPE_CHECKING:
    from pyarrow import DataType, Field, Schema

MOST_COLUMNS = 4096
"""Of a table. Rows with more names between them hold data in their names."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The columns of a user's rows.

    Attributes:
        names: In the order in which they were first seen.
        rows: How many rows there are.
        mixed: Those that no type fits, which Parquet holds as JSON text.
        make_fields: Makes Arrow's fields of them.
        metadata: What the file they come from says of them to pandas or datasets.
    """

    names: Sequence[str]
    rows: int
    mixed: Collection[str] = ()
    make_fields: Callable[[], list[Field]] = list
    metadata: Mapping[bytes, bytes] | None = None

    def make_schema(self) -> Schema:
        """Make Arrow's schema of them."""
        import pyarrow as pa

        return pa.schema(self.make_fields(), metadata=self.metadata)

    def fit(self, values: Mapping[str, object]) -> Mapping[str, object]:
        """Turn what is in mixed columns into JSON text."""
        if not self.mixed:
            return values
        return {name: to_json_text(value) if name in self.mixed else value for name, value in values.items()}


def survey_rows(inputs: Sequence[Input], *, typed: bool, limit: int | None = None) -> Survey:
    """Find the columns of inputs and, where wanted, types that hold all their values.

    Inputs that have a schema are not read, and keep it. Memory does not grow with the rows.
    """
    if (schema := merge_schemas([source.schema for source in inputs])) is not None:
        rows = sum(source.size_hint or 0 for source in inputs)
        mixed = frozenset(_find_mixed(inputs, schema, limit)) if typed else frozenset()
        return Survey(
            schema.names, rows, mixed, partial(_nullable, schema, mixed), None if mixed else schema.metadata
        )
    columns: dict[str, ColumnType] = {}
    count = 0
    for values in _read_values(inputs, limit):
        count += 1
        for name, value in values.items():
            column = columns.get(name)
            if column is None:
                if len(columns) == MOST_COLUMNS:
                    raise DataError(
                        f"the rows have more than {MOST_COLUMNS:,} columns", hint="leave out -o, or use --only-scores"
                    )
                column = columns[name] = ColumnType()
            if typed:
                column.see(value)
    mixed = frozenset(name for name, column in columns.items() if column.as_json)
    return Survey(tuple(columns), count, mixed if typed else (), partial(_make_fields, columns))


def _read_values(inputs: Sequence[Input], limit: int | None) -> Iterable[Mapping[str, object]]:
    read = 0
    for source in inputs:
        for row in source.rows():
            if limit is not None and read >= limit:
                return
            read += 1
            yield row.values if isinstance(row, RawRow) else {}


def _find_mixed(inputs: Sequence[Input], schema: Schema, limit: int | None) -> set[str]:
    """Find the columns of a schema whose values Parquet cannot hold as it says."""
    files = chain.from_iterable(source.parts or [source] for source in inputs)
    schemas = [file.schema for file in files if file.schema is not None]
    mixed = {field.name for field in schema if _holds_empty_object(field.type)}
    joined = [field for field in schema if any(_differs(field, known) for known in schemas)]
    for rows in in_batches(_read_values(inputs, limit)) if joined else ():
        mixed.update(field.name for field in joined if not _fits(field, rows))
    return mixed


def _differs(field: Field, schema: Schema) -> bool:
    """Whether a file has another type for a column."""
    import pyarrow as pa

    return field.name in schema.names and schema.field(field.name).type not in (field.type, pa.null())


def _fits(field: Field, rows: Sequence[Mapping[str, object]]) -> bool:
    """Whether a column's type holds these values: that for whole numbers and floats holds no large ones."""
    import pyarrow as pa

    try:
        pa.array([values.get(field.name) for values in rows], field.type)
    except (pa.ArrowException, OverflowError):
        return False
    return True


def _holds_empty_object(kind: DataType) -> bool:
    """Whether a type holds objects without any names, which Arrow has and Parquet refuses."""
    import pyarrow as pa

    parts = [kind.field(place).type for place in range(kind.num_fields)]
    return any(map(_holds_empty_object, parts)) or (pa.types.is_struct(kind) and not parts)


def _nullable(schema: Schema, mixed: Collection[str]) -> list[Field]:
    import pyarrow as pa

    # A rejected row may have no value at all.
    fields = [field.with_type(pa.string()) if field.name in mixed else field for field in schema]
    return [field.with_nullable(nullable=True) for field in fields]


def _make_fields(columns: Mapping[str, ColumnType]) -> list[Field]:
    import pyarrow as pa

    return [pa.field(name, column.to_arrow()) for name, column in columns.items()]
