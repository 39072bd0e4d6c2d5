"""Which rows form a group, and that a group is the same however its rows are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.grouping import (
    MOST_ADJACENT,
    MOST_GATHERED,
    ROWS_LOOKED_AT,
    FoundGrouping,
    Grouping,
    UniqueIds,
    find_grouping,
)
from flip_reward.data.groups import SourceRow, place_rows, read_sources
from flip_reward.data.rows import Input, InvalidRow, RawRow, Skip
from flip_reward.data.shapes import Shape
from flip_reward.errors import OptionError

Cells = dict[str, object]


def of(*rows: Cells) -> Input:
    def read(skip: Skip) -> Iterator[RawRow]:
        return (RawRow(i, i + 2, row) for i, row in enumerate(rows) if not skip(i))

    return Input("rows", read)


def row(prompt: object, response: object, **cells: object) -> Cells:
    return {"prompt": prompt, "response": response, **cells}


def groups(*inputs: Input, column: str | None = None, limit: int | None = None) -> dict[str, Sequence[str]]:
    found = find_grouping(inputs, Shape(), column)
    rows = read_sources(inputs, Shape(), grouping=found.grouping, limit=limit, ids=UniqueIds())
    return {one.group.id: one.group.responses for one in rows if isinstance(one, SourceRow)}


def test_a_plain_file_is_not_grouped() -> None:
    assert find_grouping([of(row("a", "1"), row("b", "2"), row("a", "3"))], Shape()) == FoundGrouping()


def test_rows_with_one_id_and_one_prompt_are_a_group_wherever_they_stand() -> None:
    table = of(row("a", "1", id="x"), row("b", "2", id="y"), row("a", "3", id="x"), row("c", "4", id="x"))
    assert groups(table) == {"x": ("1", "3"), "y": ("2",), "x-row-3": ("4",)}


def test_ids_are_the_same_whatever_their_type() -> None:
    table = of(*(row("a", str(number), id=cell) for number, cell in enumerate([1, 1.0, "1", None, [1], [1], True])))
    assert groups(table) == {"1": ("0", "1", "2"), "row-3": ("3",), "row-4": ("4", "5"), "row-6": ("6",)}


def test_rows_with_one_instruction_are_a_group_when_they_follow_each_other() -> None:
    table = of(row("a", "1"), row("a", "2"), row("b", "3"), row(None, "rejected"), row("b", "4"), row("a", "5"))
    assert groups(table) == {"row-0": ("1", "2"), "row-2": ("3", "4"), "row-5": ("5",)}


def test_a_column_groups_only_rows_with_one_conversation() -> None:
    table = of(
        row("a", "1", ticket=7),
        row("b", "2", ticket=""),
        row("b", "3"),
        row("c", "4", ticket=7),
        row("a", "5", ticket=7.0),
    )
    assert groups(table, column="ticket") == {"row-0": ("1", "5"), "row-1": ("2",), "row-2": ("3",), "row-3": ("4",)}


def test_groups_go_on_from_one_input_to_the_next() -> None:
    one, two = of(row("a", "1", id="x"), row("a", "2", id="x")), of(row("a", "3", id="x"))
    assert groups(one, two) == {"x": ("1", "2", "3")}
    assert groups(one, two, limit=1) == {"x": ("1",)}


def test_a_row_with_several_responses_is_a_group_already() -> None:
    many: Cells = {"prompt": "a", "responses": ["2", "3"]}
    table = of(row("a", "1"), many, row("a", "4"), row("a", "5"))
    assert groups(table) == {"row-0": ("1",), "row-1": ("2", "3"), "row-2": ("4", "5")}
    assert not find_grouping([of(many, many)], Shape()).groups
    with pytest.raises(OptionError, match="several responses"):
        find_grouping([of(many, many)], Shape(), "prompt")


def test_an_unknown_column_is_named_with_those_there_are() -> None:
    with pytest.raises(OptionError, match="'tikcet'") as caught:
        find_grouping([of(row("a", "1", ticket=7))], Shape(), "tikcet")
    assert "'ticket'" in str(caught.value.hint)


@pytest.mark.parametrize(("column", "most"), [(None, MOST_ADJACENT), ("ticket", MOST_GATHERED)])
def test_groups_have_a_largest_size(column: str | None, most: int) -> None:
    table = of(*(row("a", "x", ticket=1) for _ in range(most + 1)))
    sizes = [len(responses) for responses in groups(table, column=column).values()]
    assert sizes == [most, 1]


def test_ids_that_come_again_late_are_numbered() -> None:
    rows = [row(f"prompt {number}", "x", id=number) for number in range(ROWS_LOOKED_AT)]
    table = of(*rows, row("prompt 5", "y", id=5))
    found = groups(table)
    assert found["5"] == ("x",)
    assert found[f"5-row-{ROWS_LOOKED_AT}"] == ("y",)


def test_how_many_groups_there_are_is_said() -> None:
    found = find_grouping([of(row("a", "1"), row("a", "2"), row("a", "3"), row("b", "4"))], Shape())
    assert found.description.endswith("1 group of several rows")
    many = find_grouping([of(*(row(f"prompt {number // 2}", "x") for number in range(3000)))], Shape())
    assert many.description.endswith("500 groups of several rows among the first 1,000")


tables = st.lists(
    st.builds(
        row,
        st.sampled_from(["a", "b", None]),
        st.sampled_from(["x", "y"]),
        id=st.sampled_from([1, "1", 2.0, None, True]),
        ticket=st.sampled_from([1, 1.0, "", "z", None]),
    ),
    min_size=1,
    max_size=12,
)


@given(tables, st.sampled_from([None, Grouping(), Grouping("id"), Grouping("ticket")]), st.data())
def test_every_row_is_found_in_its_group_and_a_resumed_run_has_the_same_names(
    table: list[Cells], grouping: Grouping | None, data: st.DataObject
) -> None:
    inputs = [of(*table[:5]), of(*table[5:])]
    everything = list(read_sources(inputs, Shape(), grouping=grouping, ids=UniqueIds()))
    whole = {one.position: one.group for one in everything if isinstance(one, SourceRow)}
    seen: dict[int, list[int]] = {position: [] for position in whole}
    for placed in place_rows(inputs, Shape(), grouping=grouping):
        if placed.group is None:
            assert placed.rejected in everything
            continue
        place = placed.group.position
        seen[place] += range(placed.first, placed.first + placed.count)
        assert whole[place].responses[placed.first : placed.first + placed.count] == placed.group.group.responses
        assert whole[place].messages == placed.group.group.messages
    assert seen == {position: list(range(len(group.responses))) for position, group in whole.items()}
    assert len({group.id for group in whole.values()}) == len(whole)

    done = data.draw(st.sets(st.sampled_from(sorted(whole)))) if whole else set()
    ids = UniqueIds()
    for position in done:
        ids.claim(whole[position].id, row=position)
    rows = read_sources(
        inputs,
        Shape(),
        grouping=grouping,
        ids=ids,
        is_completed=done.__contains__,
        is_whole=lambda one: one.position in done,
    )
    rest = list(rows)
    assert rest == [one for one in everything if isinstance(one, InvalidRow) or one.position not in done]


IDS = st.one_of(st.integers(0, 30).map(str), st.sampled_from(["a", "a-row-3", "a-row-3-row-5", "row-9", "é"]))


@given(st.lists(IDS), st.integers(0, 40), st.booleans())
def test_names_are_unique_in_any_order_of_ids(found: list[str], begun: int, counts_up: bool) -> None:
    found = [*(map(str, range(250)) if counts_up else ()), *found]
    owners: dict[str, int] = {}
    expected = []
    for row, one in enumerate(found):
        name = one
        while owners.setdefault(name, row) != row:
            name = f"{name}-row-{row}"
        expected.append(name)
    ids = UniqueIds()
    assert [ids.claim(one, row=row) for row, one in enumerate(found)] == expected
    assert ids.repeated == sum(name != one for name, one in zip(expected, found, strict=True))
    resumed = UniqueIds((name, row) for row, name in enumerate(expected[:begun]))
    rest = [resumed.claim(one, row=row) for row, one in enumerate(found) if row >= begun]
    assert rest == expected[begun:]
