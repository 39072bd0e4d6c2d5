"""`Benchmark`: groups of responses with labels that say which ones are good, and how rows become its items."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.core.conversation import Group
from flip_reward.core.response import select_target
from flip_reward.data.rows import InvalidRow, RawRow, Row
from flip_reward.errors import ConversationError, DataError

_MOST_BAD_ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class BenchmarkItem:
    """A group of responses with its labels.

    One that decides nothing is refused with a DataError: fewer than two responses, none of them chosen or none
    rejected, an empty response, or no instruction.
    """

    id: str
    subset: str
    group: Group
    chosen: tuple[bool, ...]
    """For each response, whether it is a correct or preferred one."""
    tags: tuple[str, ...] = ()
    """For each response, another label that the protocol needs; may be empty."""
    unit: str = field(default="", compare=False)
    """What it shares with others that a sample takes together, where its row says so. It is not kept in folders."""

    def __post_init__(self) -> None:
        responses = self.group.responses
        if all(self.chosen) or not any(self.chosen):
            raise DataError(f"there are no {'rejected' if all(self.chosen) else 'chosen'} responses")
        for number, (response, chosen) in enumerate(zip(responses, self.chosen, strict=True), 1):
            if not response or response.isspace():
                raise DataError(f"response {number} ({'chosen' if chosen else 'rejected'}) is empty")
        try:
            instruction = select_target(self.group.messages).instruction
        except ConversationError as error:
            raise DataError(str(error)) from error
        if not instruction or instruction.isspace():
            raise DataError("the instruction is empty")

    @classmethod
    def of(
        cls,
        item_id: str,
        subset: str,
        prompt: str | Sequence[Mapping[str, str]],
        chosen: Iterable[str],
        rejected: Iterable[str],
        tags: tuple[str, ...] = (),
        unit: str = "",
    ) -> BenchmarkItem:
        """Make an item of chosen and rejected responses. The chosen ones come first in its group."""
        chosen, rejected = tuple(chosen), tuple(rejected)
        if not chosen or not rejected:
            raise DataError(f"there are no {'rejected' if chosen else 'chosen'} responses")
        try:
            group = Group.of(prompt, chosen + rejected, id=item_id)
        except ConversationError as error:
            raise DataError(str(error)) from error
        return cls(item_id, subset, group, (True,) * len(chosen) + (False,) * len(rejected), tags, unit)

    def to_json(self) -> dict[str, object]:
        """Return the item's fields as they stand in an evaluation folder."""
        return {
            "id": self.id,
            "subset": self.subset,
            "messages": [{"role": message.role, "content": message.content} for message in self.group.messages],
            "responses": self.group.responses,
            "chosen": self.chosen,
            "tags": self.tags,
        }


@dataclass(frozen=True)
class Benchmark:
    """Items, and the protocol that grades rewards on them."""

    name: str
    protocol: str
    items: tuple[BenchmarkItem, ...]
    """In the source's order."""
    bad_rows: tuple[InvalidRow, ...] = field(default=(), compare=False)
    """Rows that were left out, when that was asked for."""
    read_as: str = field(default="", compare=False)
    """How the rows were read, where their columns were recognised."""

    @cached_property
    def sha256(self) -> str:
        """A hash of the items: two benchmarks with the same hash have the same items."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(json.dumps(item.to_json(), ensure_ascii=False).encode())
        return digest.hexdigest()

    @property
    def subsets(self) -> dict[str, int]:
        """Subset -> how many items, in the order in which they occur."""
        return dict(Counter(item.subset for item in self.items))

    @property
    def shared_prompts(self) -> int:
        """How many items share their conversation with another one, and so are no independent draws."""
        counts = Counter([item.group.messages for item in self.items])
        return sum([count for count in counts.values() if count > 1])

    def keep_subsets(self, names: Iterable[str]) -> Benchmark:
        """Return the benchmark with the items of some subsets only; a DataError when it has no such subset."""
        wanted, known = set(names), self.subsets
        for name in sorted(wanted - known.keys()):
            lowered = {subset.lower(): subset for subset in known}
            near = get_close_matches(name.lower(), lowered, n=1)
            suggestion = f"; did you mean {lowered[near[0]]!r}?" if near else ""
            raise DataError(
                f"{self.name} has no subset {name!r}{suggestion}", hint=f"its subsets are {', '.join(known)}"
            )
        return replace(self, items=tuple(item for item in self.items if item.subset in wanted))


def make_benchmark(
    name: str,
    protocol: str,
    rows: Iterable[Row],
    to_item: Callable[[RawRow], BenchmarkItem | None],
    *,
    source: str,
    skip_bad_rows: bool = False,
    may_repeat: bool = False,
    guess: Callable[[RawRow], str | None] = lambda _row: None,
) -> Benchmark:
    """Make a benchmark of a source's rows.

    Rows that cannot be used are refused with a DataError that lists them. Accuracy on the others is accuracy on
    another benchmark, so to leave them out (`skip_bad_rows`) is never the default. A row of which `to_item` makes
    None is a tie, and none of the benchmark's. Where no row has the benchmark's columns, `guess` says whose the
    first one is. Prompts with the same responses are refused unless the benchmark `may_repeat` them.
    """
    items: list[BenchmarkItem] = []
    bad: list[InvalidRow] = []
    alien: list[tuple[RawRow, ColumnError]] = []
    lines: dict[object, int] = {}
    ties = False
    for row in rows:
        if not isinstance(row, RawRow):
            bad.append(row)
            continue
        try:
            if (item := to_item(row)) is None:
                ties = True
            else:
                _refuse_repetition(lines, item, row.line, may_repeat=may_repeat)
                items.append(item)
        except DataError as error:
            bad.append(InvalidRow(row.position, row.line, str(error)))
            if isinstance(error, ColumnError):
                alien.append((row, error))
    if len(alien) == len(bad) > 1 and not items:
        row, reason = alien[0]
        raise DataError(f"{source}: none of its {len(bad)} rows can be used: {reason}", hint=guess(row))
    if bad and not skip_bad_rows:
        raise list_bad_rows(source, bad, len(bad) + len(items))
    if not items:
        raise DataError(
            f"{source}: there are no rows" + (" that can be used" if bad else " but ties" if ties else "")
        )
    return Benchmark(name, protocol, tuple(items), tuple(bad))


def list_bad_rows(source: str, bad: Sequence[InvalidRow], count: int) -> DataError:
    """Make the error for rows that cannot be used, with the first of them."""
    shown = "".join(f"\n  line {row.line}: {row.reason}" for row in bad[:_MOST_BAD_ROWS_SHOWN])
    more = f"\n  and {len(bad) - _MOST_BAD_ROWS_SHOWN} more" if len(bad) > _MOST_BAD_ROWS_SHOWN else ""
    return DataError(
        f"{source}: {len(bad)} of {count} rows cannot be used:{shown}{more}",
        hint="correct them, or leave them out with --skip-bad-rows",
    )


def _refuse_repetition(lines: dict[object, int], item: BenchmarkItem, line: int, *, may_repeat: bool) -> None:
    keys: dict[object, str] = {item.id: f"the id {item.id!r}"}
    if not may_repeat:
        keys[item.group.messages, frozenset(item.group.responses)] = "the prompt with these responses"
    for key, what in keys.items():
        if key in lines:
            raise DataError(f"{what} is already in line {lines[key]}")
        lines[key] = line


class RowModel(BaseModel):
    """A row of a benchmark. Other columns are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class MessageModel(RowModel):
    """A message of a conversation in a row."""

    role: str
    content: str


RowT = TypeVar("RowT", bound=RowModel)


class ColumnError(DataError):
    """A row lacks a column of its benchmark, or holds something else there."""


def read_row(model: type[RowT], row: RawRow) -> RowT:
    """Check a row against its model; a DataError names the column that is missing or holds something else."""
    try:
        return model.model_validate(dict(row.values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise ColumnError(f"no column {column!r}; the row has {', '.join(map(repr, row.values))}") from None
        raise ColumnError(f"{column!r}: {first['msg'].removeprefix('Value error, ')}") from None


def match_subset(benchmark: str, text: str, names: Iterable[str]) -> str:
    """Return the one of a benchmark's subsets that is meant, however it is capitalised; a ColumnError for another."""
    known = {name.casefold(): name for name in names}
    if text.strip().casefold() not in known:
        raise ColumnError(f"{benchmark} has no subset {text!r}; its subsets are {', '.join(known.values())}")
    return known[text.strip().casefold()]
