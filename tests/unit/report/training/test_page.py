from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from flip_reward.audit.monitor.rollout import Rollout
from flip_reward.core.conversation import Message
from flip_reward.errors import OptionError, RunError
from flip_reward.report.document import MAX_BYTES
from flip_reward.report.training.folder import Split, is_training, read_metrics
from flip_reward.report.training.page import build_training_page, write_training_page
from flip_reward.report.training.payload import PageHead, Sample, Shown, WatchedTraining, choose_samples
from flip_reward.training.grpo.samples import SampleRow, SampleTable
from tests.e2e.command import run
from tests.unit.report.evaluation.test_page import Outline, read_data
from tests.unit.report.make_evaluation import HOSTILE
from tests.unit.report.make_training import ALARM_STEP, GENERATIONS, PROMPTS, STEPS, make_training

EVERYTHING = STEPS * PROMPTS * GENERATIONS + 4 * PROMPTS


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


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_training(tmp_path_factory.mktemp("trainings") / "seed-0", hostile=True)


def show(path: Path) -> dict[str, Any]:
    """Return what a page shows."""
    payload: dict[str, Any] = read_data(path)["payload"]
    return payload


def find(payload: dict[str, Any], title: str, section: str = "policy") -> dict[str, Any]:
    """Return the figure with a title."""
    return next(one for one in payload["figures"] if (one["title"], one["section"]) == (title, section))


def test_curves_and_samples_from_before_and_after(folder: Path) -> None:
    assert is_training(folder)
    payload = show(build_training_page(folder))
    assert payload["kicker"] == "flip-reward training of tiny"
    training, held_out = find(payload, "Reward")["curves"]
    assert training["line"] == [[1, 0.1, None, None]]
    assert [point[:2] for point in held_out["line"]] == [[0, 0.25], [2, 0.75]]
    assert find(payload, "Copied from the instruction")["curves"][0]["line"][1][:2] == [2, 0.5]
    assert find(payload, "Copied from the instruction")["scale"] == "share"
    comparison = payload["comparison"]
    assert (comparison["split"], comparison["before"], comparison["after"]) == ("held-out", 0, 2)
    changes = {one["title"]: (one["before"][1], one["after"][1]) for one in comparison["changes"]}
    assert changes == {"Reward": (0.25, 0.75), "backward-likelihood, not trained on": (-2.0, -2.0)}
    assert [one["outcome"] for one in payload["samples"]] == ["scored", "scored", "empty_reply", "scored"]
    assert ["grpo.beta", "0"] in payload["made"][0]["rows"]


def test_texts_are_data(folder: Path) -> None:
    page = build_training_page(folder).read_text()
    assert "alert(1)" not in page
    assert "<i>escaped" not in page
    assert "{{" not in page.partition("<script")[0]
    assert "form" in Outline(page).tags


def test_held_out_figures_have_intervals_over_prompts(watched: Path) -> None:
    line = find(show(build_training_page(watched)), "Reward")["curves"][1]["line"]
    assert [step for step, *_ in line] == [0, 4, 8, 12]
    assert all(low < value < high for _, value, low, high in line)


def test_without_scipy_there_are_means_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = SampleTable(folder, 2)
    table.add(Split.HELD_OUT, [make_sample(row, "Pears.", 0.25) for row in range(2, 9)])
    table.write(Split.HELD_OUT, 0)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "scipy", None)
        line = find(show(build_training_page(folder)), "Reward")["curves"][1]["line"]
    assert line[0] == [0, 0.25, None, None]


def test_what_was_copied_is_marked(watched: Path) -> None:
    data = read_data(build_training_page(watched))
    marked = [one for one in data["payload"]["samples"] if one["marks"]]
    assert marked
    for one in marked:
        start, end = one["marks"][:2]
        assert data["texts"][one["response"]][start:end].lower() in data["texts"][one["prompt"]].lower()
    assert any(one["copied"] == 1.0 for one in marked)
    assert not any(one["copied"] for one in data["payload"]["samples"] if not one["marks"])


def test_alarms_lead_to_their_samples(watched: Path) -> None:
    payload = show(build_training_page(watched))
    assert len(payload["samples"]) == EVERYTHING + len(HOSTILE) + 1, "the one that no step has"
    (alarm,) = payload["alarms"]
    assert (alarm["step"], alarm["onset"], alarm["mechanism"]) == (ALARM_STEP, 5, "Copied from the instruction")
    samples = {one["id"]: one for one in payload["samples"]}
    assert [samples[name]["step"] for name in alarm["examples"]] == [ALARM_STEP] * 4 + [3]
    assert len({*alarm["examples"]}) == 5
    assert find(payload, "Divergence", "watched")["about"]


def test_trainings_that_differ_in_the_seed_stand_together(watched: Path) -> None:
    other = make_training(watched.parent / "seed-1", seed=1, alarms=False)
    path = build_training_page(watched, other)
    assert path.parent == watched
    payload = show(path)
    assert payload["runs"] == ["seed-0", "seed-1"]
    training, held_out = find(payload, "Reward")["curves"]
    first, second = training["runs"]
    assert training["line"][3][1] == pytest.approx((first[3][1] + second[3][1]) / 2)
    assert len(held_out["line"]) == 4
    assert {one["run"] for one in payload["samples"]} == {0, 1}
    assert len({one["id"] for one in payload["samples"]}) == len(payload["samples"])
    assert payload["made"][1] == {"title": "Different in each", "rows": [["grpo.seed", "0, 1"]]}


def test_the_samples_of_any_step(folder: Path) -> None:
    table = SampleTable(folder)
    for step in range(1, 31):
        table.add(Split.TRAIN, [make_sample(step, f"of step {step}.", step / 100)])
        table.write(Split.TRAIN, step)
    payload = show(build_training_page(folder, split=Split.TRAIN, step=7))
    assert payload["asked"] == {"from": "7", "to": "7", "split": "train"}
    assert {one["split"] for one in payload["samples"]} == {"train"}
    comparison = payload["comparison"]
    assert (comparison["before"], comparison["after"]) == (1, 7)
    assert comparison["changes"][0]["after"][1] == 0.07
    assert show(build_training_page(folder, step=7))["comparison"]["after"] == 2, "of held-out prompts"
    assert show(build_training_page(folder, step=0))["comparison"] is None
    with pytest.raises(OptionError, match="no train samples of step 31") as caught:
        build_training_page(folder, split=Split.TRAIN, step=31)
    assert caught.value.hint == "its steps are 1, 2, 3, ..., 30"
    with pytest.raises(OptionError, match="no held-out samples of step 1") as caught:
        build_training_page(folder, split=Split.HELD_OUT, step=1)
    assert caught.value.hint == "its steps are 0, 2"


def test_no_samples_of_a_split(folder: Path) -> None:
    with pytest.raises(OptionError, match="has no train samples") as caught:
        build_training_page(folder, split=Split.TRAIN)
    assert caught.value.hint == "show the others with --split held-out"


def test_of_a_long_training_some_samples_stand_for_all() -> None:
    sizes = {(split, step): 50 for split in Split for step in range(0, 400, 1 if split is Split.TRAIN else 20)}
    chosen = choose_samples(sizes, Shown(), 1000)
    assert 900 <= sum(map(len, chosen.values())) <= 1000
    held_out = [places for (split, _), places in sorted(chosen.items()) if split is Split.HELD_OUT]
    assert len(held_out) == 20, "of each step"
    assert held_out[0] == held_out[-1], "the same prompts before and after"
    assert len(held_out[0]) > 100 / 3
    steps = sorted(step for split, step in chosen if split is Split.TRAIN)
    assert (steps[0], steps[-1]) == (0, 399)
    assert max(later - step for step, later in pairwise(steps)) < 5
    assert len(choose_samples(sizes, Shown(step=7), 1000)[Split.TRAIN, 7]) > 50 / 3


def test_rollouts_of_any_trainer_fit_into_a_page() -> None:
    prompt, texts = "Say what the sea is like in five words.", ["Blue. " * 400, "Wide, salty, cold, deep, old."]

    def read(_: Split, step: int) -> list[Sample]:
        rollouts = [
            Rollout(step, prompt, f"{step}.{number} {text}", number / 9) for number in range(9) for text in texts
        ]
        return [Sample.of_rollout(rollout) for rollout in rollouts]

    steps = range(0, 3000, 3)
    metrics = {"reward": [(step, step / 3000) for step in steps], "audit/drift": [(step, 0.5) for step in steps]}
    run_ = WatchedTraining("rollouts", metrics, {(Split.TRAIN, step): 18 for step in steps}, read)
    page = write_training_page(PageHead("Rollouts", "audit of rollouts"), [run_], Shown(), max_bytes=400_000)
    assert len(page) < MAX_BYTES
    assert b"Rollouts" in page


def test_the_command_takes_step_split_and_several_folders(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shown = run(folder, "report", ".", "--split", "held-out", "--step", "2")
    assert shown.stdout.startswith("Report: report.html")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    refused = run(elsewhere, "report", ".", "--step", "2")
    assert refused.returncode == 2
    assert "--step and --split are for the folder of a training" in refused.stderr
    refused = run(folder, "report", ".", str(elsewhere))
    assert refused.returncode == 2
    assert "is no training" in refused.stderr
    assert "there is no folder nowhere" in run(folder, "report", ".", "nowhere").stderr


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


def test_an_unfinished_training_without_metrics(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(orjson.dumps({"kind": "grpo", "recipe": {}}))
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    table = SampleTable(tmp_path)
    table.add(Split.TRAIN, [make_sample(0, "Pears.", 0.5)])
    table.write(Split.TRAIN, 1)
    payload = show(build_training_page(tmp_path))
    assert payload["figures"] == []
    assert payload["comparison"] is None
