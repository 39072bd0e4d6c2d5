from __future__ import annotations

from pathlib import Path

import pytest

from flip_reward.training.common.checkpoints import drop_oldest, find_last, mark_whole


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        mark_whole(tmp_path / f"checkpoint-{step}")
    return tmp_path


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (1, None, {10}),
        (2, None, {8, 10}),
        (9, None, {2, 4, 6, 8, 10}),
        (1, 4, {4, 10}),
        (2, 10, {8, 10}),
        (3, 4, {4, 8, 10}),
    ],
)
def test_the_last_and_the_best_are_kept(folder: Path, keep: int, best: int | None, left: set[int]) -> None:
    drop_oldest(folder, keep, best=folder / f"checkpoint-{best}" if best else None)
    assert {path.name for path in folder.iterdir()} == {f"checkpoint-{step}" for step in left}
    assert find_last(folder) == folder / "checkpoint-10"


def test_nothing_to_drop(tmp_path: Path) -> None:
    drop_oldest(tmp_path, 1)
