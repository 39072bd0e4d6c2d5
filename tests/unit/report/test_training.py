import json
from pathlib import Path

import pytest

from flip_reward.core.conversation import Message
from flip_reward.errors import OptionError, RunError
from flip_reward.report.training import Split, build_training_page, is_training, read_metrics
from flip_reward.training.grpo.samples import SampleRow, SampleTable
from tests.e2e.command import run


def make_sample(row: int, response: str, reward: float | None) -> SampleRow:
    return SampleRow(
        row, (Message("user", f"Question {row} <b>?"),), response, 3, reward,
        "scored" if reward is not None else "empty_reply", "inferred & <i>escaped</i>",
        held_out_rewards={"backward-likelihood": -2.0},
    )  # fmt: skip


def write_training(folder: Path) -> None:
    """Write all of a training's folder but its samples."""
    (folder / "manifest.json").write_text(
        json.dumps({"kind": "grpo", "recipe": {"model": "tiny", "grpo": {"beta": 0}}})
    )
    entries = [
        {"step": 0, "eval_reward": 0.2, "eval_not_trained_on/backward-likelihood": -2.0},
        {"step": 1, "reward": 0.1, "general-flip/copied_4grams": 0.0, "loss": 0.1},  # as it was called before
        {"step": 2, "reward": None, "general-flip/instruction_4gram_overlap": 0.5},
        {"step": 2, "eval_reward": 0.6},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_training(tmp_path)
    for rank in (0, 1):
        table = SampleTable(tmp_path, rank)
        table.add(Split.HELD_OUT, [make_sample(rank, "<script>alert(1)</script>", 0.25)])
        table.write(Split.HELD_OUT, 0)
        table.add(Split.HELD_OUT, [make_sample(rank, "x" * 4000, 0.75 if rank else None)])
        table.write(Split.HELD_OUT, 2)
    return tmp_path


def test_curves_and_samples_from_before_and_after(folder: Path) -> None:
    assert is_training(folder)
    page = build_training_page(folder).read_text()
    assert "<th>reward</th><td>0.250</td><td>0.750</td>" in page
    assert "<th>backward-likelihood, not trained on</th><td>-2.000</td>" in page
    assert page.count("<article id='prompt-") == 2
    assert "after: empty reply, backward-likelihood -2.000" in page
    assert "1,500 more characters" in page
    assert "grpo.beta: 0" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<i>escaped" not in page
    assert page.count("<polyline") == 5
    assert "{{" not in page


def test_the_samples_of_any_step(folder: Path) -> None:
    table = SampleTable(folder)
    for step in range(1, 31):
        table.add(Split.TRAIN, [make_sample(step, f"of step {step}.", step / 100)])
        table.write(Split.TRAIN, step)
    page = build_training_page(folder, split=Split.TRAIN, step=7).read_text()
    assert "Prompts that were learned from: means over samples after step 1 and after step 7." in page
    assert "<th>reward</th><td>0.010</td><td>0.070</td>" in page
    assert "of step 1." in page
    assert "of step 7." in page
    assert "of step 30." not in page
    assert "after step 1 and after step 30." in build_training_page(folder, split=Split.TRAIN).read_text()
    assert "after step 0 and after step 0." in build_training_page(folder, step=0).read_text()
    with pytest.raises(OptionError, match="no train samples of step 31") as caught:
        build_training_page(folder, split=Split.TRAIN, step=31)
    assert caught.value.hint == "its steps are 1, 2, 3, ..., 30"
    with pytest.raises(OptionError, match="no held-out samples of step 1") as caught:
        build_training_page(folder, step=1)
    assert caught.value.hint == "its steps are 0, 2"


def test_no_samples_of_a_split(folder: Path) -> None:
    with pytest.raises(OptionError, match="has no train samples") as caught:
        build_training_page(folder, split=Split.TRAIN)
    assert caught.value.hint == "show the others with --split held-out"


def test_the_command_takes_step_and_split(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shown = run(folder, "report", ".", "--split", "held-out", "--step", "2")
    assert shown.stdout.startswith("Report: report.html")
    elsewhere = run(tmp_path_factory.mktemp("elsewhere"), "report", ".", "--step", "2")
    assert elsewhere.returncode == 2
    assert "--step and --split are for the folder of a training" in elsewhere.stderr


def test_the_last_entry_of_a_step_counts(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "reward": 0.3}\n')
    assert read_metrics(folder)["reward"] == [(1, 0.3)]


def test_damage_and_other_folders(folder: Path, tmp_path: Path) -> None:
    (folder / "metrics.jsonl").write_text("{broken")
    with pytest.raises(RunError, match="cannot be read"):
        build_training_page(folder)
    assert not is_training(tmp_path / "nowhere")


def test_nothing_to_show_yet(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"kind": "grpo", "recipe": {}}')
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="no samples yet"):
        build_training_page(tmp_path)
