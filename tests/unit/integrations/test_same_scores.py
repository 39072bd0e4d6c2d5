"""Every trainer's file gives the same scores as the command, for the same responses and model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flip_reward.core.conversation import Group
from tests.e2e.command import read, run
from tests.unit.integrations.conftest import SetEnvironment
from tests.unit.integrations.trainers import TRAINERS, TRL, Trainer, to_samples

EXAMPLES = Path(__file__).parents[3] / "examples/responses.jsonl"


def example_groups() -> list[Group]:
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
    return [Group.of(row.get("instruction") or row["messages"], row["responses"], id=row["id"]) for row in rows]


@pytest.fixture(scope="module")
def scores_of_the_command(tmp_path_factory: pytest.TempPathFactory) -> list[float | None]:
    folder = tmp_path_factory.mktemp("command")
    finished = run(folder, "score", str(EXAMPLES), "--model", "scripted", "--run-folder", "run")
    assert finished.returncode == 0, finished.stderr
    scores = [record.score.value for record in read(folder / "run")]
    assert None in scores
    assert len(set(scores)) >= 10
    return scores


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("trainer", [*TRAINERS, TRL], ids=str)
def test_a_trainer_gets_the_scores_of_the_command(
    trainer: Trainer, scores_of_the_command: list[float | None], set_environment: SetEnvironment
) -> None:
    set_environment(on_unscored="none" if trainer.takes_none else "-7")
    instead = None if trainer.takes_none else -7.0
    expected = [instead if score is None else pytest.approx(score) for score in scores_of_the_command]
    assert trainer.reward(to_samples(example_groups())) == expected  # about, for some trainers count in float32
