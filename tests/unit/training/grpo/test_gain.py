from pathlib import Path

import pytest

from flip_reward.core.conversation import Message
from flip_reward.errors import RunError
from flip_reward.training.grpo.gain import main, measure_gains
from flip_reward.training.grpo.samples import SampleRow, SampleTable, Split


def write(folder: Path, step: int, rewards: list[float | None], other: float) -> None:
    table = SampleTable(folder)
    rows = [
        SampleRow(
            row, (Message("user", "Hi"),), "Hello", 2, reward, "scored" if reward is not None else "empty_reply",
            not_trained_on={"judge": other},
        )
        for row, reward in enumerate(rewards)
    ]  # fmt: skip
    table.add(Split.HELD_OUT, rows)
    table.write(Split.HELD_OUT, step)


def test_prompts_are_paired_over_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in ("one", "two"):
        write(tmp_path / seed, 0, [0.0, 0.5, None], 3.0)
        write(tmp_path / seed, 5, [0.9, 0.9, 0.9], 3.0)  # amid the training: not looked at
        write(tmp_path / seed, 9, [0.2, 0.6, 0.9], 2.0)
    gains = {gain.name: gain for gain in measure_gains([tmp_path / "one", tmp_path / "two"])}
    assert gains["reward"].change.value == pytest.approx(0.15)
    assert gains["reward"].change.n == 4
    assert gains["reward"].before == 0.25
    assert gains["reward"].change.low >= 0.1
    assert gains["judge"].change.value == -1.0
    assert gains["judge"].change.n == 6
    amid = {gain.name: gain for gain in measure_gains([tmp_path / "one", tmp_path / "two"], step=5)}
    assert amid["reward"].after == pytest.approx(0.9)
    assert amid["judge"].change.value == 0.0
    with pytest.raises(RunError, match="no held-out samples of step 7, but of 5, 9"):
        measure_gains([tmp_path / "one"], step=7)
    assert gains["characters"].change.value == 0.0
    main([str(tmp_path / "one"), str(tmp_path / "two")])
    assert "| judge | 3.000 | 2.000 | -1.000 [-1.000, -1.000] | 6 |" in capsys.readouterr().out


def test_one_evaluation_is_no_change(tmp_path: Path) -> None:
    write(tmp_path, 0, [0.1], 1.0)
    with pytest.raises(RunError, match="from before and after"):
        measure_gains([tmp_path])
    with pytest.raises(SystemExit, match="no held-out samples"):
        main([str(tmp_path)])
