"""The rows of inputs with the groups that stand in them."""

from __future__ import annotations

from flip_reward.data.groups import place_rows
from flip_reward.data.rows import Input, InvalidRow, RawRow
from flip_reward.data.shapes import Shape


def _input(name: str, rows: list[RawRow | InvalidRow]) -> Input:
    return Input(name, lambda _: iter(rows))


def test_rows_keep_their_order_and_their_columns() -> None:
    good = RawRow(0, 1, {"prompt": "Name a fruit.", "responses": ["Pear.", "Plum."], "who": "anna"})
    bad = RawRow(1, 2, {"prompt": " ", "response": "x"})
    damaged = InvalidRow(0, 1, "not JSON")
    placed = list(place_rows([_input("a", [good, bad]), _input("b", [damaged])], Shape()))
    assert [one.row for one in placed] == [good, bad, damaged]
    assert (placed[0].first, placed[0].count) == (0, 2)
    assert [one.rejected and one.rejected.position for one in placed] == [None, 1, 2]
    assert [one.source for one in placed] == ["a", "a", "b"]
