from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from flip_reward import Group
from flip_reward.core.score import Outcome, Score
from flip_reward.data.groups import PlacedRow, SourceRow
from flip_reward.data.rows import InvalidRow, RawRow
from flip_reward.data.shapes import Shape
from flip_reward.scoring.output import RowResult
from flip_reward.selection.choice import TieRule, select_best
from flip_reward.selection.output import ChoiceColumns, Choices, Keep
from flip_reward.selection.results import Result

PAIR = Shape(candidate_columns=("answer_a", "answer_b"))


CHOICES = Choices()


def rows_of(values: Sequence[float | None], parts: Sequence[tuple[int, int]], position: int = 0) -> list[RowResult]:
    """Rows of one group, in which something was chosen: each has the responses from one index on so many."""
    scores = tuple(Score(None, Outcome.EMPTY_REPLY) if one is None else Score(one, Outcome.SCORED) for one in values)
    group = Group.of("say it", [f"response {index}" for index in range(len(values))], id=f"g{position}")
    result = Result(position, group, "say it", scores, select_best(group, scores), TieRule.FIRST)
    assert [*CHOICES.note([result])] == [result]
    rows = []
    for number, (first, count) in enumerate(parts):
        own = replace(group, responses=group.responses[first : first + count])
        placed = PlacedRow(RawRow(number, number + 1, {}), "rows", SourceRow(position, "rows", 1, own), first, count)
        rows.append(RowResult(placed, scores[first : first + count], len(values)))
    return rows


def rejected() -> RowResult:
    return RowResult(PlacedRow(InvalidRow(9, 10, "not JSON"), "rows", None), (), rejected="not JSON")


def add(shape: Shape, keep: Keep, rows: Sequence[RowResult]) -> list[Mapping[str, object] | None]:
    columns = ChoiceColumns(shape, keep, CHOICES)
    added = [columns.add(row) for row in rows]
    assert all(one is None or set(one) <= set(columns.types) for one in added)
    return added


def chosen(added: Sequence[Mapping[str, object] | None], name: str = "chosen") -> list[object]:
    return [None if one is None else one.get(name) for one in added]


LONG = [(0, 1), (1, 1), (2, 1)]


def test_of_rows_with_one_response_the_chosen_one_is_kept() -> None:
    rows = [
        *rows_of([0.25, 0.75, None], LONG),
        *rows_of([None], [(0, 1)], 1),
        *rows_of([0.5], [(0, 1)], 2),
        rejected(),
    ]
    assert [one is not None for one in add(Shape(), Keep.BEST, rows)] == [False, True, False, False, True, False]


def test_all_rows_say_their_rank_and_whether_they_were_chosen() -> None:
    rows = [*rows_of([0.75, 0.25, 0.75, None], [*LONG, (3, 1)]), rejected()]
    added = add(Shape(), Keep.ALL, rows)
    assert chosen(added, "rank") == [1, 3, 1, None, None]
    assert chosen(added) == [True, False, False, False, None]
    assert chosen(added, "outcome")[-1] == "rejected"


@pytest.mark.parametrize("keep", sorted(Keep))
def test_a_row_with_a_list_stays_and_names_the_chosen_place(keep: Keep) -> None:
    rows = [*rows_of([0.25, 0.75], [(0, 2)]), *rows_of([None, None], [(0, 2)], 1), rejected()]
    added = add(Shape(many=True), keep, rows)
    assert chosen(added) == [1, None, None]
    assert chosen(added, "chosen_response") == ["response 1", None, None]
    assert chosen(added, "reward") == [[0.25, 0.75], [None, None], [None]]
    assert chosen(added, "rank")[0] == ([2, 1] if keep is Keep.ALL else None)


def test_a_row_with_several_columns_names_the_chosen_one() -> None:
    [added, refused] = add(PAIR, Keep.ALL, [*rows_of([0.25, 0.75], [(0, 2)]), rejected()])
    assert added is not None
    assert refused is not None
    assert (added["chosen"], added["chosen_response"], added["rank_answer_a"]) == ("answer_b", "response 1", 2)
    assert refused["outcome_answer_a"] == refused["outcome_answer_b"] == "rejected"


def test_groups_may_stand_anywhere_between_each_other() -> None:
    one, other = rows_of([0.25, 0.75], LONG[:2]), rows_of([0.5, 0.125], LONG[:2], 1)
    rows = [one[0], other[0], one[1], other[1]]
    assert [added is not None for added in add(Shape(), Keep.BEST, rows)] == [False, True, True, False]
