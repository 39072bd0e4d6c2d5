"""Tables in memory, read row by row and given back with columns added: pandas, polars and Hugging Face data sets.

None of their libraries is imported before a table of it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flip_reward.data.rows import Input
from flip_reward.errors import DataError

_ROWS_AT_ONCE = 1024


class Table(Protocol):
    """A pandas or polars DataFrame, or a `datasets.Dataset`."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and of columns."""
        ...


class Frame(Protocol):
    """How a table of one kind is read and given back."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its columns."""
        ...

    def __len__(self) -> int: ...

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield its rows in order, a missing cell as None."""
        ...

    def with_columns(self, columns: Mapping[str, FrameColumn]) -> Any:  # noqa: ANN401 - of the table's kind
        """Return a new table of the same kind with columns at its end."""
        ...

    def take(self, places: Sequence[int]) -> Any:  # noqa: ANN401 - of the table's kind
        """Return a new table of the rows at these places."""
        ...

    def make(self, rows: Sequence[Mapping[str, object]]) -> Any:  # noqa: ANN401 - of the table's kind
        """Return a new table of other rows."""
        ...


@dataclass(frozen=True, slots=True)
class FrameColumn:
    """A column to be added: a value for each row."""

    kind: type
    """float or str."""
    values: Sequence[object]
    lists: bool = False
    """Whether each cell is a list of these."""


def open_frame(data: object) -> Frame | None:
    """Return how to read a table; None where it is no table.

    Raises:
        DataError: It is a table of a kind that has no rows in memory, or several parts.
    """
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" for kind in type(data).__mro__}
    for name, hint in _UNREADABLE.items():
        if name in kinds:
            raise DataError(f"a {name} cannot be scored as it is", hint=hint)
    return next((frame(data) for name, frame in _FRAMES.items() if name in kinds), None)


def open_in_memory(data: object) -> Input:
    """Open a table, or rows that are in memory, as an input.

    Raises:
        DataError: It is neither, or see `open_frame`.

    Example:
        >>> [row.values for row in open_in_memory([{"prompt": "Say hi."}]).rows()]
        [{'prompt': 'Say hi.'}]
    """
    frame = open_frame(data)
    if frame is not None:
        return Input.in_memory("table", frame.rows, size_hint=len(frame))
    hint = "such as [{'prompt': ..., 'response': ...}], or a pandas or polars DataFrame, or a datasets.Dataset"
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise DataError(f"rows must be a list of mappings, and not {type(data).__name__}", hint=hint)
    rows = list(data)
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"rows must be mappings, and row {place} is {type(row).__name__}", hint=hint)
    return Input.in_memory("rows", lambda: rows)


class PandasFrame:
    """Columns may have any labels; the index stays as it is."""

    def __init__(self, table: Any) -> None:  # noqa: ANN401 - pandas has no types here
        self._table = table
        self.names = [str(label) for label in table.columns]
        if len(set(self.names)) < len(self.names):
            double = next(name for name in self.names if self.names.count(name) > 1)
            raise DataError(f"two columns are called {double!r}", hint="rename one of them")

    def __len__(self) -> int:
        return len(self._table)

    def rows(self) -> Iterator[dict[str, object]]:
        """See `Frame`."""
        for start in range(0, len(self._table), _ROWS_AT_ONCE):
            part = self._table.iloc[start : start + _ROWS_AT_ONCE]
            columns = [_read_pandas(part.iloc[:, place]) for place in range(len(self.names))]
            for cells in zip(*columns, strict=True):
                yield dict(zip(self.names, cells, strict=True))

    def with_columns(self, columns: Mapping[str, FrameColumn]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        import pandas as pd

        text = pd.Series(["a"]).dtype  # pandas 3 has a type for texts, pandas 2 does not
        kinds = {float: "float64", str: text}
        added = {
            name: pd.Series(column.values, self._table.index, dtype="object" if column.lists else kinds[column.kind])
            for name, column in columns.items()
        }
        return self._table.assign(**added)

    def take(self, places: Sequence[int]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        return self._table.iloc[list(places)]

    def make(self, rows: Sequence[Mapping[str, object]]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        import pandas as pd

        return pd.DataFrame(list(rows))


def _read_pandas(column: Any) -> list[object]:  # noqa: ANN401 - pandas has no types here
    cells: list[object] = column.tolist()
    if column.dtype == object:
        cells = [_as_python(cell) for cell in cells]
    missing = column.isna()
    return [None if gone else cell for cell, gone in zip(cells, missing, strict=True)] if missing.any() else cells


def _as_python(value: Any) -> object:  # noqa: ANN401 - whatever a cell holds
    """Return a cell without numpy: pandas reads the lists of a Parquet file as arrays."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_as_python(one) for one in value]
    return {key: _as_python(one) for key, one in value.items()} if isinstance(value, dict) else value


class PolarsFrame:
    """Types and order of the columns stay as they are."""

    def __init__(self, table: Any) -> None:  # noqa: ANN401 - polars is not always there to be checked
        self._table = table
        self.names: list[str] = table.columns

    def __len__(self) -> int:
        return len(self._table)

    def rows(self) -> Iterator[dict[str, object]]:
        """See `Frame`."""
        yield from self._table.iter_rows(named=True)

    def with_columns(self, columns: Mapping[str, FrameColumn]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        import polars as pl

        kinds = {float: pl.Float64(), str: pl.String()}
        return self._table.with_columns(
            pl.Series(name, column.values, pl.List(kinds[column.kind]) if column.lists else kinds[column.kind])
            for name, column in columns.items()
        )

    def take(self, places: Sequence[int]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        return self._table[list(places)]

    def make(self, rows: Sequence[Mapping[str, object]]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        import polars as pl

        return pl.from_dicts(list(rows), infer_schema_length=None) if rows else pl.DataFrame()


class DatasetFrame:
    """Features and format stay as they are. Images and sounds are not decoded."""

    def __init__(self, table: Any) -> None:  # noqa: ANN401 - datasets has no types here
        self._table = table
        self.names: list[str] = table.column_names

    def __len__(self) -> int:
        return len(self._table)

    def rows(self) -> Iterator[dict[str, object]]:
        """See `Frame`."""
        for batch in self._table.with_format("arrow").iter(_ROWS_AT_ONCE):
            yield from batch.to_pylist()

    def with_columns(self, columns: Mapping[str, FrameColumn]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        from datasets import List, Value

        kinds = {float: Value("float64"), str: Value("string")}
        table = self._table
        for name, column in columns.items():
            feature = List(kinds[column.kind]) if column.lists else kinds[column.kind]
            table = table.add_column(name, column.values, feature=feature)
        return table

    def take(self, places: Sequence[int]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        return self._table.select(list(places))

    def make(self, rows: Sequence[Mapping[str, object]]) -> Any:  # noqa: ANN401 - of the table's kind
        """See `Frame`."""
        from datasets import Dataset

        return Dataset.from_list(list(rows))


_FRAMES: Mapping[str, Callable[[Any], Frame]] = {
    "pandas.DataFrame": PandasFrame,
    "polars.DataFrame": PolarsFrame,
    "datasets.Dataset": DatasetFrame,
}
_UNREADABLE = {
    "datasets.DatasetDict": 'choose a part, such as data["train"]',
    "datasets.IterableDataset": "load it without streaming, or write its rows to a file for score_file",
    "datasets.IterableDatasetDict": 'load it without streaming, and choose a part, such as data["train"]',
    "polars.LazyFrame": "collect() gives a DataFrame",
    "pandas.Series": "give the whole DataFrame: a row holds an instruction and a response",
    "polars.Series": "give the whole DataFrame: a row holds an instruction and a response",
}
