from __future__ import annotations

from flip_reward.engines.huggingface.inference import count_shared


def test_what_rows_share() -> None:
    assert count_shared([[1, 2, 3]]) == 3
    assert count_shared([[1, 2, 3], [2, 2, 3]]) == 0
    assert count_shared([[1, 2], [1, 2, 3]]) == 2
