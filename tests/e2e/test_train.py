"""A policy is trained with the installed command: killed on the way, on two processes, and without space."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.e2e.command import COMMAND, environment, run, start, write_rows
from tests.unit.report.evaluation.test_page import read_data
from tests.unit.training.grpo_cases import WORDS, make_folder

RECIPE: dict[str, Any] = {
    "model": "tiny",
    "data": {"source": "rows.jsonl", "held_out": 0.2},
    "reward": {"model": "scripted", "cache": "off"},
    "held_out_rewards": [{"reward": "backward-likelihood", "model": "scripted", "cache": "off"}],
    "grpo": {
        "learning_rate": 1e-2, "max_steps": 10, "num_generations": 4, "per_device_train_batch_size": 8,
        "max_completion_length": 8, "gradient_checkpointing": False, "use_cpu": True, "save_steps": 2,
        "num_generations_eval": 2, "per_device_eval_batch_size": 8, "eval_steps": 5,
    },
}  # fmt: skip
LETTERS = "one in the d g h i l m n o p q s t u w y z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy that writes words and letters at random, and prompts that some of its responses earn something for."""
    make_folder(tmp_path)
    texts = [f"Name {kind} {word}, and {LETTERS}" for kind in ("three", "four") for word in WORDS]
    write_rows(
        tmp_path / "rows.jsonl",
        [
            {"messages": [{"role": "user", "content": text}], "ground_truth": text, "dataset": "general-flip"}
            for text in texts
        ],
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model/model.safetensors")
    return found


def assert_learned_the_same(one: Path, other: dict[str, torch.Tensor]) -> None:
    """Assert that a training ended with these weights, and not with those it began with."""
    mine, start = weights(one), load_file(one.parent / "tiny/model.safetensors")
    assert all(torch.equal(mine[name], other[name]) for name in other)
    assert not all(torch.equal(mine[name], value) for name, value in start.items())


def test_killed_and_resumed_like_undisturbed(folder: Path) -> None:
    process = start(folder, "train", "recipe.yaml", "-o", "killed")
    deadline = time.monotonic() + 90
    while not list(folder.glob("killed/checkpoints/*/whole")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it ended before it could be killed"
    assert not (folder / "killed/model").exists()

    resumed = run(folder, "train", "recipe.yaml", "-o", "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on from step" in resumed.stderr
    assert "Reward of held-out prompts: " in resumed.stdout
    undisturbed = run(folder, "train", "recipe.yaml", "-o", "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert_learned_the_same(folder / "killed", weights(folder / "undisturbed"))
    assert len(json.loads((folder / "killed/manifest.json").read_text())["sessions"]) == 2
    reported = run(folder, "report", "killed")
    assert reported.stdout.startswith("Report: killed/report.html")
    drawn = [figure["title"] for figure in read_data(folder / "killed/report.html")["payload"]["figures"]]
    assert "backward-likelihood, not trained on" in drawn


def test_the_command_of_trl(folder: Path) -> None:
    """`trl grpo` finds the reward by its name, and the reward its model in the environment."""
    (folder / "prompts").mkdir()
    write_rows(folder / "prompts/train.jsonl", [{"prompt": [{"role": "user", "content": "Name a fruit."}]}] * 4)
    settings = environment(
        folder, FLIP_REWARD_MODEL="scripted", FLIP_REWARD_ON_MAX_UNSCORED_SHARE="1.0", HF_HOME=str(folder / "hub"),
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    options = {
        "model_name_or_path": "tiny", "dataset_name": "./prompts", "output_dir": "out", "max_steps": "1",
        "per_device_train_batch_size": "4", "num_generations": "4", "max_completion_length": "8",
        "logging_steps": "1", "report_to": "none", "bf16": "false", "use_cpu": "true",
        "reward_funcs": "flip_reward.integrations.trl.flip_reward",
    }  # fmt: skip
    finished = subprocess.run(
        [str(COMMAND.with_name("trl")), "grpo", *(f"--{name}={value}" for name, value in options.items())],
        cwd=folder, env=settings, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "flip_reward/outcomes/scored" in finished.stdout + finished.stderr


def run_on_two(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in two processes.

    accelerate's own launcher starts several processes without a GPU by MPI alone, so torch's starts them here.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = ["--master-addr", "127.0.0.1", "--master-port", str(free.getsockname()[1])]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *place]
    finished = subprocess.run(
        [*launch, str(COMMAND), *arguments], cwd=folder, env=environment(folder, OMP_NUM_THREADS="1"),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished


def read_parts(folder: Path, step: int) -> list[list[dict[str, Any]]]:
    """Read the samples of a step, process by process."""
    files = sorted((folder / "samples/train").glob(f"step-{step:06d}.rank-*.parquet"))
    return [pq.read_table(file).to_pylist() for file in files]


def test_two_processes(folder: Path) -> None:
    """Each scores its own half of a group, and the advantages are those of the whole.

    A training that goes on after its first step loads the first process's weights in both, so one that draws and
    learns what the undisturbed one did shows that there the weights were the same in both.
    """
    changes = ["grpo.max_steps=2", "grpo.per_device_train_batch_size=2", "grpo.save_steps=1", "grpo.ddp_backend=gloo"]
    command = ["train", "recipe.yaml", "-o", "two", *changes]
    undisturbed = run_on_two(folder, *command)
    assert undisturbed.stderr.count("prompts to learn from") == 1
    manifest = json.loads((folder / "two/manifest.json").read_text())
    assert manifest["outcome"]["steps"] == 2
    assert manifest["configuration"]["settings"]["processes"] == 2
    steps = [json.loads(line) for line in (folder / "two/metrics.jsonl").read_text().splitlines()]
    for step, metrics in enumerate([line for line in steps if "loss" in line], start=1):
        one, other = read_parts(folder / "two", step)
        assert len(one) == len(other) == 2
        assert len({row["row"] for row in (*one, *other)}) == 1
        rewards = [row["reward"] for row in (*one, *other)]
        assert metrics["reward"] == pytest.approx(fmean(rewards), abs=1e-5)
        assert metrics["reward_std"] == pytest.approx(stdev(rewards), abs=1e-5)

    expected, second = weights(folder / "two"), read_parts(folder / "two", 2)
    for gone in ("model", "checkpoints/checkpoint-2", "samples"):
        shutil.rmtree(folder / "two" / gone)
    (folder / "two/manifest.json").write_text(json.dumps({**manifest, "outcome": None}))
    assert "Going on from step 1" in run_on_two(folder, *command).stderr
    assert read_parts(folder / "two", 2) == second
    assert_learned_the_same(folder / "two", expected)


def test_a_full_disk_keeps_the_last_checkpoint(folder: Path) -> None:
    arguments = ["train", "recipe.yaml", "-o", "out", "grpo.max_steps=8"]
    process = start(folder, *arguments)
    deadline = time.monotonic() + 90
    while not list(folder.glob("out/checkpoints/*/whole")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate()
    checkpoints = folder / "out/checkpoints"
    last = max(path.name for path in checkpoints.iterdir())
    assert (checkpoints / last / "whole").exists()
    assert not (folder / "out/model").exists(), "it ended before it could be stopped"

    command = 'ulimit -f 200; trap \'\' XFSZ; exec "$0" "$@"'  # a file size limit stands in for a full disk
    full = subprocess.run(
        ["bash", "-c", command, str(COMMAND), *arguments],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert full.returncode == 5, full.stderr
    assert "cannot write the " in full.stderr
    assert f"{last} is kept, and the same command goes on from it" in full.stderr
    assert "Traceback" not in full.stderr
    assert max(path.name for path in checkpoints.iterdir() if (path / "whole").exists()) == last

    resumed = run(folder, *arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert f"Going on from step {last.rpartition('-')[2]}" in resumed.stderr
    assert (folder / "out/model/config.json").exists()


def test_a_reward_server_that_is_down(folder: Path) -> None:
    finished = run(
        folder, "train", "recipe.yaml", "model=no/such/policy", "reward.model=judge",
        "reward.base_url=http://127.0.0.1:9/v1",
    )  # fmt: skip
    assert finished.returncode == 4
    assert "refuses connections" in finished.stderr


def test_mistakes(folder: Path) -> None:
    wrong = run(folder, "train", "recipe.yaml", "grpo.learning_rat=1")
    assert wrong.returncode == 2
    assert "unknown key 'learning_rat'; did you mean 'learning_rate'?" in wrong.stderr
    turn = {"role": "user", "content": "Hi there"}
    write_rows(folder / "rows.jsonl", [{"messages": [turn], "ground_truth": "Hi there", "dataset": "general-flop"}])
    finished = run(folder, "train", "recipe.yaml")
    assert finished.returncode == 2
    assert "line 1: unknown reward 'general-flop' in 'dataset'; did you mean 'general-flip'?" in finished.stderr
