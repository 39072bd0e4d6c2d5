"""What the README and the guides tell a reader to type, typed, where this machine has all that it needs."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command import environment, run_process
from tests.pages import PAGES, ROOT, find_commands, find_programs

GUIDES = [page for page in PAGES if page.name == "README.md" or page.parent.name == "guides"]
# These need a server, a cluster or the hub.
SERVED = ("localhost", "--base-url", "--ray", "import ray", "serve ", "wildchat")
# These need a training or several runs; tests of their own run them.
MADE = ("train ", "trained/", "tune-inferrer", "tuned/", "merge ", "compare ")
PLACES = {"FOLDER": "run", "FOLDER...": "run", "RUN": "run", "PATH": "rollouts"}
FREE = "prompts, completions = ['Name three fruits.'], ['Pears.']\n"  # names that a program leaves to the reader


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("reader")
    prompts = [f"Name {number} fruits." for number in range(16)]
    good, bad = "Apples, pears and plums are fruits.", "It rains in Spain."
    several: list[dict[str, object]] = [{"id": text, "prompt": text, "responses": [good, bad]} for text in prompts]
    write_rows(folder / "data.jsonl", several)
    for name in ("candidates", "prompts", "responses"):
        write_rows(folder / f"{name}.jsonl", several[:4])
    write_rows(folder / "pairs.jsonl", [{"prompt": text, "chosen": good, "rejected": bad} for text in prompts[:4]])
    (folder / "answers.csv").write_text("prompt,response\nName three fruits.,Pears and figs.\n", encoding="utf-8")
    labels = [f"{text}#{place},{1 - place}\n" for text in prompts for place in range(2)]
    (folder / "labels.csv").write_text("id,label\n" + "".join(labels), encoding="utf-8")
    logged: list[dict[str, object]] = [
        {"step": step, "prompt": text, "response": good, "reward": 0.5, "score": 0.5, "gold": 0.4}
        for step in range(9)
        for text in prompts[:4]
    ]
    (folder / "rollouts").mkdir()
    write_rows(folder / "rollouts" / "all.jsonl", logged)
    write_rows(folder / "samples.jsonl", logged)
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "rewards.py").write_text("def score(prompt, response):\n    return len(response)\n")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    made = run_process(folder, "score", "data.jsonl", "--run-folder", "run", "-o", "scored.jsonl")
    assert made.returncode == 0, made.stderr
    return folder


def needs_more(text: str) -> bool:
    return any(mark in text for mark in (*SERVED, *MADE))


COMMANDS = [
    pytest.param(words, id=f"{page.stem}: {shlex.join(words)}")
    for page in GUIDES
    for words in find_commands(page)
    if len(words) > 1 and not needs_more(shlex.join(words))  # one word speaks of a command
]
PROGRAMS = [
    pytest.param(program, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, program in enumerate(find_programs(page))
    if not needs_more(program)
]


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_runs(words: list[str], folder: Path) -> None:
    typed = [PLACES.get(word, word).replace("/shared", "shared") for word in words]
    if words == ["audit", "prompts.jsonl", "-r", "flip"]:  # hundreds of texts
        typed += ["--model", "scripted"]
    finished = run_process(folder, *typed, SLURM_ARRAY_TASK_ID="0", SLURM_ARRAY_TASK_COUNT="1")
    found = {0, 6} if "--fail-if" in words else {0}
    assert finished.returncode in found, finished.stdout + finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs(program: str, folder: Path) -> None:
    if "torch.load" in program:
        import torch

        sample = {"prompt": "Name a fruit.", "response": "A pear.", "reward": 0.5}
        torch.save({"rollout_id": 0, "samples": [sample]}, folder / "rollouts" / "0.pt")
    finished = subprocess.run(
        [sys.executable, "-c", FREE + program],
        cwd=folder,
        env=environment(folder, FLIP_REWARD_MODEL="scripted"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    (folder / "rollouts" / "0.pt").unlink(missing_ok=True)
    assert finished.returncode == 0, finished.stderr


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) > 15
    assert len(PROGRAMS) > 3
