"""Parquet: the schema of a type of rows, or of rows that are only known by their values; and the writing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from datetime import date, datetime
from enum import Enum
from itertools import islice
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    BinaryIO,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from flip_reward.data.tables.values import dump_json

if TYPE_CHECKING:
    from pyarrow import DataType, Field, RecordBatch, Schema

BATCH_ROWS = 1024
_ROW_GROUP_BYTES = 1 << 23
_MOST_FIELDS = 64
"""Of an object. One with more names holds data in its names, and becomes JSON text."""
_DEEPEST = 6
_LARGEST_INTEGER = (1 << 63) - 1
_LARGEST_EXACT = 1 << 53

T = TypeVar("T")


def in_batches(rows: Iterable[T]) -> Iterator[Sequence[T]]:
    """Yield rows some at a time."""
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch


def write_parquet(file: BinaryIO, rows: Iterable[Mapping[str, object]], schema: Schema) -> None:
    """Write rows with these columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        waiting: list[RecordBatch] = []
        for batch in in_batches(rows):
            waiting.append(_to_arrow(batch, schema))
            if sum(one.nbytes for one in waiting) >= _ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


def _to_arrow(rows: Sequence[Mapping[str, object]], schema: Schema) -> RecordBatch:
    import pyarrow as pa

    try:
        return pa.RecordBatch.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:  # half a character somewhere, which only JSON can spell
        whole = [{name: _make_encodable(value) for name, value in row.items()} for row in rows]
        return pa.RecordBatch.from_pylist(whole, schema=schema)


def _make_encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list | tuple):
        return [_make_encodable(part) for part in value]
    if isinstance(value, Mapping):
        return {_make_encodable(name): _make_encodable(part) for name, part in value.items()}
    return value


class Kind(Enum):
    """What the values of a column are, as far as that was seen."""

    UNSEEN = "unseen"
    BOOL = "bool"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    TIME = "time"
    DATE = "date"
    BYTES = "bytes"
    LIST = "list"
    OBJECT = "object"
    MIXED = "mixed"
    """Nothing that a column of one type could hold: it is written as JSON text."""


_KINDS: Mapping[type, Kind] = {
    bool: Kind.BOOL,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    str: Kind.TEXT,
    datetime: Kind.TIME,
    date: Kind.DATE,
    bytes: Kind.BYTES,
    list: Kind.LIST,
    tuple: Kind.LIST,
    dict: Kind.OBJECT,
}


@dataclass(slots=True)
class ColumnType:
    """The type of a column, found by looking at its values one after the other.

    Example:
        >>> column = ColumnType()
        >>> for value in (1, None, 2.5):
        ...     column.see(value)
        >>> column.kind.value
        'number'
        >>> column.see("many")
        >>> column.kind.value
        'mixed'
    """

    kind: Kind = Kind.UNSEEN
    _item: ColumnType | None = None
    _fields: dict[str, ColumnType] = field(default_factory=dict)
    _largest: int = 0

    def see(self, value: object, depth: int = 0) -> None:
        """Take one more value into account."""
        if value is None or self.kind is Kind.MIXED:
            return
        kind = _KINDS.get(type(value), Kind.MIXED)
        if kind is not self.kind:
            kind = self._join(kind)
        if kind is Kind.TEXT:
            self.kind = kind
            return
        if type(value) is int:
            self._largest = max(self._largest, abs(value))
            if self._largest > (_LARGEST_INTEGER if kind is Kind.INTEGER else _LARGEST_EXACT):
                kind = Kind.MIXED
        elif (kind is Kind.NUMBER and self._largest > _LARGEST_EXACT) or (
            isinstance(value, datetime) and value.tzinfo is not None
        ):
            kind = Kind.MIXED
        elif kind is Kind.LIST or kind is Kind.OBJECT:
            kind = self._see_parts(value, kind, depth)
        self.kind = kind

    def _join(self, kind: Kind) -> Kind:
        if self.kind is Kind.UNSEEN:
            return kind
        numbers = {self.kind, kind} == {Kind.INTEGER, Kind.NUMBER}
        return Kind.NUMBER if numbers else Kind.MIXED

    def _see_parts(self, value: object, kind: Kind, depth: int) -> Kind:
        if depth == _DEEPEST:
            return Kind.MIXED
        if isinstance(value, dict):
            for name, part in value.items():
                if name not in self._fields:
                    if len(self._fields) == _MOST_FIELDS or not name.isprintable():
                        return Kind.MIXED
                    self._fields[name] = ColumnType()
                if self._fields[name].mixed_after(part, depth):
                    return Kind.MIXED
        elif isinstance(value, list | tuple):
            self._item = self._item or ColumnType()
            for part in value:
                if self._item.mixed_after(part, depth):
                    return Kind.MIXED
        return kind

    def mixed_after(self, value: object, depth: int) -> bool:
        """See a part of a value, and say whether the whole has no type now."""
        self.see(value, depth + 1)
        return self.kind is Kind.MIXED

    def to_arrow(self) -> DataType:
        """Return the type as Arrow has it. What was never seen, or is mixed, is text."""
        import pyarrow as pa

        if self.as_json:
            return pa.string()
        match self.kind:
            case Kind.LIST:
                return pa.list_((self._item or ColumnType()).to_arrow())
            case Kind.OBJECT:
                return pa.struct([(name, part.to_arrow()) for name, part in self._fields.items()])
        plain = {
            Kind.BOOL: pa.bool_(),
            Kind.INTEGER: pa.int64(),
            Kind.NUMBER: pa.float64(),
            Kind.TIME: pa.timestamp("us"),
            Kind.DATE: pa.date32(),
            Kind.BYTES: pa.binary(),
        }
        return plain.get(self.kind, pa.string())

    @property
    def as_json(self) -> bool:
        """Whether the values are written as JSON text. Parquet has no place for objects that are always empty."""
        if self.kind is Kind.OBJECT:
            return not self._fields or any(part.as_json for part in self._fields.values())
        return self.kind is Kind.MIXED or (self._item is not None and self._item.as_json)


def to_json_text(value: object) -> str | None:
    """Write a value of a mixed column as JSON text; null stays null."""
    return None if value is None else dump_json(value).decode()


def make_schema(row_type: type) -> Schema:
    """Make the Parquet schema of a dataclass or TypedDict; a field is nullable where its type allows None.

    Example:
        >>> from typing import TypedDict
        >>> make_schema(TypedDict("Row", {"name": str, "values": tuple[float, ...], "reward": float | None}))
        name: string not null
        values: list<item: double not null> not null
          child 0, item: double not null
        reward: double
    """
    import pyarrow as pa

    return pa.schema(make_fields(get_type_hints(row_type)))


def make_fields(hints: Mapping[str, object]) -> list[Field]:
    """Make the columns of Parquet for names with their types."""
    return [_make_field(name, hint) for name, hint in hints.items()]


def _make_field(name: str, hint: object) -> Field:
    import pyarrow as pa

    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    [kind] = [choice for choice in choices if choice is not NoneType]
    return pa.field(name, _make_type(kind), nullable=NoneType in choices)


def _make_type(kind: object) -> DataType:
    import pyarrow as pa

    if get_origin(kind) in (tuple, list):
        return pa.list_(_make_field("item", get_args(kind)[0]))
    if get_origin(kind) is Literal:
        return pa.string()
    if not isinstance(kind, type):
        raise TypeError(f"there is no column for {kind}")
    if is_dataclass(kind) or is_typeddict(kind):
        return pa.struct(make_fields(get_type_hints(kind)))
    plain = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return plain[str if issubclass(kind, Enum) else kind]
