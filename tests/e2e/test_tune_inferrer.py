"""A model is tuned with the installed command, killed on the way, and used for scoring."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.e2e.command import read, run, start, write_rows
from tests.gguf_models import save_gguf
from tests.hf_models import save_model

WORDS = ("Apples", "pears", "plums", "fruits", "trees", "sentence", "question", "name")
ROWS = [
    {"prompt": f"Name {one} and {other}, please.", "response": f"{one} and {other} grow on trees."}
    for one in WORDS
    for other in WORDS
    if one != other
]
RECIPE = """
model: tiny
data: [{source: rows.jsonl, weight: 2}]
exclude: [evaluation.jsonl]
keep_near_duplicates: true
held_out: 0.1
lora: {rank: 4}
sft: {learning_rate: 0.01, per_device_train_batch_size: 2, save_steps: 5, logging_steps: 5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny")
    write_rows(tmp_path / "rows.jsonl", [*ROWS, {"prompt": "Name it.", "response": ""}])
    write_rows(tmp_path / "evaluation.jsonl", [{"prompt": ROWS[0]["prompt"], "chosen": ["a"], "rejected": ["b"]}])
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_killed_resumed_and_used(folder: Path) -> None:
    arguments = ["tune-inferrer", "recipe.yaml", "sft.bf16=false", "-o", "tuned"]
    process = start(folder, *arguments, "seed=1")
    deadline = time.monotonic() + 90
    while not list(folder.glob("tuned/checkpoints/*/whole")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it ended before it could be killed"
    assert not (folder / "tuned/adapter_config.json").exists()

    resumed = run(folder, *arguments, "seed=1")
    assert resumed.returncode == 0, resumed.stderr
    assert "Traceback" not in resumed.stderr
    assert "Going on from step" in resumed.stderr
    assert "left out: 1 evaluated, " in resumed.stderr
    assert "1 no_answer" in resumed.stderr
    assert "Use it: --model transformers:tuned --reward backward-likelihood --template tuned" in resumed.stdout
    manifest = json.loads((folder / "tuned/manifest.json").read_text())
    assert manifest["outcome"]["held_out_loss"] < manifest["outcome"]["held_out_loss_before"]
    assert len(manifest["sessions"]) == 2

    options = ["--reward", "backward-likelihood", "--cache", "off", "--run-folder", "run"]  # asked as it was tuned
    scored = run(folder, "score", "rows.jsonl", "--model", "transformers:tuned", "--dtype", "float32", *options)
    assert scored.returncode == 0, scored.stderr
    assert "Warning" not in scored.stderr
    rewards = {record.id: record.score.value for record in read(folder / "run")}
    assert sum(value is not None for value in rewards.values()) == len(ROWS)

    exported = run(folder, "export-adapter", "tuned", "-o", "again.gguf")
    assert exported.returncode == 0, exported.stderr
    assert "Adapter: again.gguf" in exported.stdout
    assert (folder / "again.gguf").read_bytes() == (folder / "tuned/adapter.gguf").read_bytes()
    save_gguf(folder / "tiny", folder / "tiny.gguf")
    for adapter in ("tuned", "again.gguf"):
        options[-1] = f"run-{adapter}"
        again = run(
            folder, "score", "rows.jsonl", "--model", f"tiny.gguf+{adapter}", *options, "--context-tokens", "256"
        )
        assert again.returncode == 0, again.stderr
        assert {record.id: record.score.value for record in read(folder / options[-1])} == pytest.approx(
            rewards, abs=0.05
        )
    for one in ("run", "run-tuned", "run-again.gguf"):
        assert '"template": "tuned"' in (folder / one / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.yaml"], "the recipe missing.yaml cannot be read"),
        (["recipe.yaml", "sft.learning_rat=1"], "did you mean 'learning_rate'?"),
        (["recipe.yaml", "data=[{source: row.jsonl}]"], "near names in .: rows.jsonl"),
        (["recipe.yaml", "model=tinny"], "'tinny'"),
        (["recipe.yaml", "max_tokens=8"], "no row is left to learn from"),
    ],
)
def test_mistakes(folder: Path, arguments: list[str], message: str) -> None:
    finished = run(folder, "tune-inferrer", *arguments)
    assert finished.returncode == 2
    assert message in finished.stderr


def test_the_options(folder: Path) -> None:
    text = run(folder, "tune-inferrer", "--help", COLUMNS="200").stdout
    assert {word.strip("│ ,'") for word in text.split() if word.startswith("--")} == {"--output", "--help"}
    assert "Examples:" in text
