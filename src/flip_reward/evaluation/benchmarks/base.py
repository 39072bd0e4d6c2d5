"""`Benchmark`: groups of responses of which it is known which ones are good."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from flip_reward.core.conversation import Group
from flip_reward.core.response import select_target
from flip_reward.data.input import RawRow, Row
from flip_reward.errors import ConversationError, DataError

_MOST_BAD_ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class BenchmarkItem:
    """A group of responses with its labels.

    Attributes:
        id: Names the item within its benchmark.
        subset: The part of the benchmark it belongs to.
        group: The conversation and the responses.
        chosen: One for each response: whether it is a correct or preferred one.
        tags: One for each response, where a protocol tells responses apart by more than that; else empty.

    Raises:
        DataError: Nothing could be decided by the item: fewer than two responses, none of them chosen or none
            rejected, an empty response, or no instruction.
    """

    id: str
    subset: str
    group: Group
    chosen: tuple[bool, ...]
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        responses = self.group.responses
        if len(responses) < 2:
            raise DataError("there is only one candidate response")
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
        prompt: str | list[dict[str, str]],
        chosen: Iterable[str],
        rejected: Iterable[str],
        tags: tuple[str, ...] = (),
    ) -> BenchmarkItem:
        """Make an item of chosen and rejected responses. The chosen come first in its group.

        Example:
            >>> item = BenchmarkItem.of("1", "fruit", "Name a fruit.", ["Pear."], ["Bread.", "Brick."])
            >>> item.group.responses, item.chosen
            (('Pear.', 'Bread.', 'Brick.'), (True, False, False))
        """
        chosen, rejected = tuple(chosen), tuple(rejected)
        if not chosen or not rejected:
            raise DataError(f"there are no {'rejected' if chosen else 'chosen'} responses")
        try:
            group = Group.of(prompt, chosen + rejected, id=item_id)
        except ConversationError as error:
            raise DataError(str(error)) from error
        return cls(item_id, subset, group, (True,) * len(chosen) + (False,) * len(rejected), tags)

    def to_json(self) -> dict[str, object]:
        """Return the item as it stands in an evaluation folder."""
        return {
            "id": self.id,
            "subset": self.subset,
            "messages": [{"role": message.role, "content": message.content} for message in self.group.messages],
            "responses": self.group.responses,
            "chosen": self.chosen,
            "tags": self.tags,
        }


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of a benchmark that cannot be used.

    Attributes:
        line: Its line or place in the source, from 1.
        reason: Why.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Items, and the protocol that grades rewards on them.

    Attributes:
        name: What the user and the results call it.
        protocol: The name of the protocol.
        items: The items, in the source's order.
        bad_rows: Rows that were left out, when that was asked for.
    """

    name: str
    protocol: str
    items: tuple[BenchmarkItem, ...]
    bad_rows: tuple[BadRow, ...] = field(default=(), compare=False)

    @property
    def sha256(self) -> str:
        """A hash of the items: two benchmarks with the same one ask the same questions."""
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
        """How many items share their conversation with another one. Intervals take items for independent."""
        counts = Counter(item.group.messages for item in self.items)
        return sum(count for count in counts.values() if count > 1)

    def keep_subsets(self, names: Iterable[str]) -> Benchmark:
        """Return the benchmark with the items of some subsets only.

        Raises:
            DataError: It has no such subset.
        """
        wanted, known = set(names), self.subsets
        for name in sorted(wanted - known.keys()):
            lowered = {subset.lower(): subset for subset in known}
            near = get_close_matches(name.lower(), lowered, n=1)
            suggestion = f"; did you mean {lowered[near[0]]!r}?" if near else ""
            raise DataError(
                f"{self.name} has no subset {name!r}{suggestion}", hint=f"its subsets are {', '.join(known)}"
            )
        return replace(self, items=tuple(item for item in self.items if item.subset in wanted))


def collect_items(
    rows: Iterable[Row], to_item: Callable[[RawRow], BenchmarkItem], *, source: str, skip_bad_rows: bool = False
) -> tuple[tuple[BenchmarkItem, ...], tuple[BadRow, ...]]:
    """Make the items of a source's rows.

    Args:
        rows: What was read.
        to_item: Makes an item of a row, or raises a `DataError` that says why not.
        source: Names the source in messages.
        skip_bad_rows: Leave out the rows that cannot be used. A number that leaves out rows is one about another
            benchmark, so this is never the default.

    Returns:
        The items, and the rows left out.

    Raises:
        DataError: Some rows cannot be used and are not to be left out, or none is left.
    """
    items: list[BenchmarkItem] = []
    bad: list[BadRow] = []
    lines: dict[object, int] = {}
    for row in rows:
        if not isinstance(row, RawRow):
            bad.append(BadRow(row.line, row.reason))
            continue
        try:
            item = to_item(row)
            _refuse_repetition(lines, item.id, row.line, f"the id {item.id!r}")
            content = (item.group.messages, frozenset(item.group.responses))
            _refuse_repetition(lines, content, row.line, "the same prompt and responses")
        except DataError as error:
            bad.append(BadRow(row.line, str(error)))
        else:
            items.append(item)
    if bad and not skip_bad_rows:
        shown = "".join(f"\n  line {row.line}: {row.reason}" for row in bad[:_MOST_BAD_ROWS_SHOWN])
        more = f"\n  and {len(bad) - _MOST_BAD_ROWS_SHOWN} more" if len(bad) > _MOST_BAD_ROWS_SHOWN else ""
        raise DataError(
            f"{source}: {len(bad)} of {len(bad) + len(items)} rows cannot be used:{shown}{more}",
            hint="mend them, or leave them out with --skip-bad-rows",
        )
    if not items:
        raise DataError(f"{source}: there are no rows" + (" that can be used" if bad else ""))
    return tuple(items), tuple(bad)


def _refuse_repetition(lines: dict[object, int], key: object, line: int, what: str) -> None:
    if key in lines:
        raise DataError(f"{what}: line {lines[key]} has it already")
    lines[key] = line
