"""Runs are found again, go on past their limit, and leave nothing where they never began."""

import json
from pathlib import Path

import pytest

from flip_reward.scoring.manifest import Manifest
from tests.e2e.command import run, run_process, write_rows
from tests.http.fault_server import FaultServer

ROWS = [{"instruction": f"say {n}", "responses": ["a", "b " * n]} for n in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return tmp_path


def test_runs_are_listed_compared_and_removed(folder: Path) -> None:
    assert run(folder, "runs").stderr == "There are no runs below runs.\n"
    body = json.dumps({"api_key": "hunter2", "top_k": 1})
    with FaultServer() as server:
        address = server.base_url.replace("http://", "http://bob:hunter2@")
        options = (
            "--model",
            server.model,
            "--base-url",
            address,
            "--extra-body",
            body,
            "--limit",
            "2",
            "--cache",
            "off",
        )
        assert run(folder, "score", "rows.jsonl", *options).returncode == 0
    run(folder, "best-of-n", "rows.jsonl", "--reward", "longest")
    [best, scored] = sorted(json.loads(run(folder, "runs", "--json").stdout)["runs"], key=lambda one: one["kind"])
    assert scored["name"].startswith("rows-flip-test-model-")
    assert best["name"].startswith("rows-longest-")
    assert (scored["rows"], scored["limit"], best["rows"], best["state"]) == (2, 2, 4, "complete")
    [session] = Manifest.read(folder / "runs" / scored["name"] / "manifest.json").sessions
    assert session.command.startswith("flip-reward score rows.jsonl --model test-model --base-url http://127.0.0.1")
    assert not any("hunter2" in path.read_text() for path in (folder / "runs").rglob("*.json*"))
    said = run(folder, "runs", COLUMNS="80").stdout
    assert max(map(len, said.splitlines())) <= 80
    assert f"{best['name']}\n  complete: 4 rows, mean " in said

    run(folder, "score", "rows.jsonl", "--reward", "shortest")
    compared = run(
        folder, "compare", f"runs/{best['name']}", *map(str, folder.glob("runs/rows-shortest-*")), "--json"
    )
    found = json.loads(compared.stdout)
    assert (found["rows"], found["same_scale"], len(found["pairs"])) == (4, False, 8)
    assert run(folder, "compare", f"runs/{best['name']}", ".").returncode == 2

    assert run(folder, "runs", "rm", "rows-longest", stdin="n\n").returncode == 130
    assert (folder / "runs" / best["name"]).exists()
    removed = run(folder, "runs", "rm", "rows-longest", "rows-short", "--yes")
    assert (removed.returncode, removed.stdout) == (0, "")
    assert [path.name for path in (folder / "runs").iterdir()] == [scored["name"]]
    assert run(folder, "runs", "rm", "nothing", "--yes").returncode == 2


@pytest.mark.parametrize("command", [("score",), ("best-of-n",), ("best-of-n", "--generate", "2")])
def test_a_run_whose_engine_is_not_there_leaves_no_folder(folder: Path, command: tuple[str, ...]) -> None:
    rows = "rows.jsonl"
    model: tuple[str, ...] = ("--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--cache", "off")
    if "--generate" in command:
        rows = "prompts.jsonl"
        write_rows(folder / rows, [{"instruction": "say it"}])
        model += ("--policy-model", "p", "--policy-base-url", "http://127.0.0.1:9/v1")
    finished = run_process(folder, *command, rows, *model)
    assert finished.returncode == 4
    assert "Run folder" not in finished.stdout
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("command", ["score", "best-of-n"])
def test_a_run_in_which_every_row_is_rejected_leaves_no_folder(folder: Path, command: str) -> None:
    write_rows(folder / "bad.jsonl", [{"instruction": "no response"}])
    finished = run(folder, command, "bad.jsonl", "--reward", "longest", "--json")
    assert finished.returncode in (2, 3)
    if finished.stdout:
        assert json.loads(finished.stdout)["run_folder"] is None
    assert not (folder / "runs").exists()


def test_an_output_that_cannot_be_written_leaves_no_folder(folder: Path) -> None:
    assert run(folder, "score", "rows.jsonl", "--reward", "longest", "-o", "nowhere/out.jsonl").returncode == 5
    assert not (folder / "runs").exists()


def test_the_whole_goes_on_where_a_part_ended(folder: Path) -> None:
    command = ("best-of-n", "rows.jsonl", "--reward", "longest", "--json")
    part = json.loads(run(folder, *command, "--limit", "1").stdout)
    whole = json.loads(run(folder, *command).stdout)
    again = json.loads(run(folder, *command, "--limit", "2", "-o", "two.jsonl").stdout)
    assert part["run_folder"] == whole["run_folder"] == again["run_folder"]
    assert (part["responses"], whole["resumed_responses"], whole["responses"]) == (2, 2, 8)
    assert len((folder / "two.jsonl").read_text().splitlines()) == 2


def test_a_folder_of_an_evaluation_says_what_goes_on_with_it(folder: Path) -> None:
    write_rows(folder / "pairs.jsonl", [{"prompt": "say a", "chosen": "a b", "rejected": "c"}])
    run(folder, "evaluate", "-b", "pairs.jsonl", "--reward", "longest", "--run-folder", "kept")
    for command in (["score", "rows.jsonl", "--reward", "longest", "--run-folder"], ["rescore"], ["runs", "rm"]):
        finished = run(folder, *command, "kept")
        assert finished.returncode == 2
        assert "'flip-reward evaluate -b pairs.jsonl" in finished.stderr
    best = run(folder, "best-of-n", "rows.jsonl", "--reward", "longest", "--run-folder", "best")
    assert best.returncode == 0
    finished = run(folder, "score", "rows.jsonl", "--reward", "shortest", "--run-folder", "best")
    assert "'flip-reward best-of-n rows.jsonl --reward longest --run-folder best'" in finished.stderr
    finished = run(folder, "evaluate", "-b", "pairs.jsonl", "--reward", "longest", "--run-folder", "best")
    assert (finished.returncode, (folder / "best/evaluation.json").exists()) == (2, False)
