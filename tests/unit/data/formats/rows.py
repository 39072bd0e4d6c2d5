"""What the tests of formats have in common."""

from __future__ import annotations

from flip_reward.data.rows import InvalidRow, Row


def reason_of(row: Row) -> str:
    assert isinstance(row, InvalidRow)
    return row.reason
