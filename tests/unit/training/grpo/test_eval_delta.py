import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flip_reward.cli.app import app
from flip_reward.core.conversation import Message
from flip_reward.errors import OptionError, RunError
from flip_reward.report.training.folder import Split
from flip_reward.training.grpo.eval_delta import measure_eval_deltas, tabulate_eval_deltas
from flip_reward.training.grpo.samples import SampleRow, SampleTable
from tests.unit.evaluation.items import known


def write(folder: Path, step: int, rewards: list[float | None], other: float) -> None:
    table = SampleTable(folder)
    rows = [
        SampleRow(
            row, (Message("user", "Hi"),), "Hello", 2, reward, "scored" if reward is not None else "empty_reply",
            held_out_rewards={"judge": other},
        )
        for row, reward in enumerate(rewards)
    ]  # fmt: skip
    table.add(Split.HELD_OUT, rows)
    table.write(Split.HELD_OUT, step)
    (folder / "manifest.json").write_text('{"kind": "grpo"}')


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for seed in ("one", "two"):
        write(tmp_path / seed, 0, [0.0, 0.5, None], 3.0)
        write(tmp_path / seed, 5, [0.9, 0.9, 0.9], 3.0)  # amid the training: not looked at
        write(tmp_path / seed, 9, [0.2, 0.6, 0.9], 2.0)
    return [tmp_path / "one", tmp_path / "two"]


def test_prompts_are_paired_over_seeds(folders: list[Path]) -> None:
    deltas = {delta.name: delta for delta in measure_eval_deltas(folders)}
    change = known(deltas["reward"].change)
    assert change.value == pytest.approx(0.15)
    assert (change.n, deltas["reward"].before) == (4, 0.25)
    assert change.low < 0 < change.high, "two prompts prove little, however many the seeds"
    judged = known(deltas["judge"].change)
    assert (judged.value, judged.n) == (-1.0, 6)
    assert known(deltas["characters"].change).value == 0.0
    amid = {delta.name: delta for delta in measure_eval_deltas(folders, step=5)}
    assert amid["reward"].after == pytest.approx(0.9)
    assert known(amid["judge"].change).value == 0.0
    with pytest.raises(RunError, match="step 7"):
        measure_eval_deltas(folders[:1], step=7)


def test_a_figure_that_no_prompt_has_at_both_times_is_none(tmp_path: Path) -> None:
    write(tmp_path / "one", 0, [None, 0.5], 3.0)
    write(tmp_path / "one", 9, [0.2, None], 2.0)
    deltas = {delta.name: delta for delta in measure_eval_deltas([tmp_path / "one"])}
    assert (deltas["reward"].before, deltas["reward"].after, deltas["reward"].change) == (None, None, None)
    assert "| reward | none | none | none | 0 |" in tabulate_eval_deltas([*deltas.values()]).splitlines()


def test_the_command_prints_a_table_or_json(folders: list[Path]) -> None:
    names = list(map(str, folders))
    shown = CliRunner().invoke(app, ["compare", *names])
    assert "| judge | 3.000 | 2.000 | -1.000 [" in shown.stdout
    assert "| prompts × seeds |" in shown.stdout, "three prompts of two seeds are no six prompts"
    shown = CliRunner().invoke(app, ["compare", *names, "--step", "5", "--json"])
    found = {delta["name"]: delta for delta in json.loads(shown.stdout)["eval_deltas"]}
    assert found["judge"]["change"]["value"] == 0.0


def test_one_evaluation_is_no_change(tmp_path: Path) -> None:
    write(tmp_path, 0, [0.1], 1.0)
    with pytest.raises(RunError, match=str(tmp_path)):
        measure_eval_deltas([tmp_path])


@pytest.mark.parametrize("arguments", [["nowhere", "elsewhere", "--step", "3"], ["nowhere"], ["one", "two", "three"]])
def test_other_folders(arguments: list[str]) -> None:
    assert isinstance(CliRunner().invoke(app, ["compare", *arguments]).exception, OptionError)
