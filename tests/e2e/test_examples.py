"""Every program under examples/ runs as its docstring says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command import environment, read, run
from tests.hf_models import save_model
from tests.http.fault_server import FaultServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(folder: Path, name: str, *arguments: str, **variables: str) -> str:
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_score_sync(tmp_path: Path) -> None:
    printed = run_example(tmp_path, "score_sync.py").splitlines()  # an instruction may have several lines
    assert sum(line.startswith("scored ") for line in printed) == 2


def test_score_async(tmp_path: Path) -> None:
    with FaultServer() as server:
        printed = run_example(tmp_path, "score_async.py", server.model, OPENAI_BASE_URL=server.base_url)
    assert [line.rpartition(" scored ")[0] for line in printed.splitlines()] == [
        "Name two fruits.",
        "Name three fruits.",
        "Name four fruits.",
    ]


@pytest.mark.slow
def test_grpo_loop(tmp_path: Path) -> None:
    save_model(tmp_path / "tiny")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Name three fruits."}\n' * 4)
    variables = {"FLIP_REWARD_MODEL": "scripted", "STEPS": "2", "TOKENS": "8", "CUDA_VISIBLE_DEVICES": ""}
    printed = run_example(tmp_path, "grpo_loop.py", "tiny", "prompts.jsonl", "out", **variables)
    assert [line.split(":")[0] for line in printed.splitlines() if line.startswith("step ")] == ["step 1", "step 2"]
    assert (tmp_path / "out/model.safetensors").exists()


def test_rescore_run(tmp_path: Path) -> None:
    run(tmp_path, "score", str(EXAMPLES / "responses.jsonl"), "--model", "scripted", "--run-folder", "run")
    printed = run_example(tmp_path, "rescore_run.py", "run")
    assert printed.startswith("run/rescored/rouge-l ")
    assert len(read(tmp_path / "run/rescored/rouge-l")) == 36


def test_own_or_other(tmp_path: Path) -> None:
    responses = ["Yes.", "No.", "Pears.", "```\nx = 1\n```", "```\ny = 2\n```", "Birnen wachsen auf Bäumen. " * 12]
    rows = [{"prompt": f"Question {number}", "response": text} for number, text in enumerate(responses)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    printed = run_example(tmp_path, "own_or_other.py", "pairs.jsonl")
    kinds = [json.loads(line)["subset"] for line in printed.splitlines()]
    assert sorted(kinds) == ["code"] * 2 + ["words from 01"] * 3, "what is alone in its kind has no other"
    near = [{"prompt": f"About {word}", "chosen": [f"{word} grow on {place}"]} for word, place in (
        ("pears", "trees"), ("beans", "poles"), ("plums", "trees"),
    )]  # fmt: skip
    (tmp_path / "near.jsonl").write_text("\n".join(map(json.dumps, near)))
    alike = [
        json.loads(line) for line in run_example(tmp_path, "own_or_other.py", "--alike", "near.jsonl").splitlines()
    ]
    others = {row["chosen"][0]: row["rejected"][0] for row in alike}
    assert others["pears grow on trees"] == "plums grow on trees"
    (tmp_path / "benchmark.jsonl").write_text(printed)
    finished = run(tmp_path, "evaluate", "-b", "benchmark.jsonl", "-r", "shortest", "--run-folder", "evaluation")
    assert finished.returncode == 0, finished.stderr
