"""Training data selected from what `score -o` writes."""

import json
from pathlib import Path

import pytest

from tests.e2e.command import run, write_rows

ROWS = [{"prompt": "Say it.", "response": text, "reward": reward} for text, reward in (("a", 0.9), ("b", 0.2))]


def test_rows_come_out_as_they_came_in(tmp_path: Path) -> None:
    write_rows(tmp_path / "scored.jsonl", ROWS)
    finished = run(tmp_path, "select", "scored.jsonl", "--top", "0.5", "--left-out", "rest.jsonl")
    assert [json.loads(line) for line in finished.stdout.splitlines()] == ROWS[:1]
    assert finished.stderr.splitlines() == ["Selected: 1 response", "Left out: 1 not among the best 50%"]
    [rest] = (tmp_path / "rest.jsonl").read_text().splitlines()
    assert json.loads(rest) == {**ROWS[1], "left_out": "not among the best 50%"}
    assert run(tmp_path, "select", "-", "--pairs", "-o", "dpo.jsonl", stdin=json.dumps(ROWS[0])).returncode == 3
    assert run(tmp_path, "select", "scored.jsonl", "--pairs", "-o", "dpo.jsonl").returncode == 0
    pair = json.loads((tmp_path / "dpo.jsonl").read_text())
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ("Say it.", "a", "b")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--best-of-group"),
        (["--top", "0.5", "--pairs"], "--best-of-group"),
        (["--top", "0.5", "--margin", "1"], "--pairs"),
        (["--top", "0.5", "-o", "scored.jsonl"], "overwritten"),
        (["--top", "0.5", "-o", "x.doc"], ".jsonl"),
        (["--top", "0.5", "-o", "x.csv", "--left-out", "x.csv"], "both"),
        (["--top", "nan"], "--top"),
        (["--top", "0.5", "--reward-column", "score"], "'score'"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], named: str) -> None:
    write_rows(tmp_path / "scored.jsonl", ROWS)
    finished = run(tmp_path, "select", "scored.jsonl", *arguments)
    assert finished.returncode == 2
    assert named in finished.stderr


def test_a_run_is_taken_as_it_is(tmp_path: Path) -> None:
    rows = [{"prompt": "Say it.", "response": text, "mine": 1} for text in ("a", "long", "middle one")]
    write_rows(tmp_path / "rows.jsonl", rows)
    run(tmp_path, "score", "rows.jsonl", "-r", "longest", "--run-folder", "kept")
    finished = run(tmp_path, "select", "kept", "--best-of-group", "-o", "best.csv", "--left-out", "rest.parquet")
    assert finished.stderr.splitlines() == ["Selected: 1 response", "Left out: 2 not the best of its group"]
    header, row = (tmp_path / "best.csv").read_text("utf-8-sig").splitlines()
    assert header.startswith("prompt,response,mine,reward,outcome")
    assert row.startswith("Say it.,middle one,1,10.0,scored")
    again = run(tmp_path, "select", "rest.parquet", "--pairs")
    assert json.loads(again.stdout)["chosen"] == "long"


def test_responses_that_a_policy_wrote(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Say it."}, {"prompt": "Say that."}, {"prompt": ""}])
    models = ("--policy-model", "scripted", "--model", "scripted")
    run(tmp_path, "best-of-n", "prompts.jsonl", "--generate", "3", *models, "--run-folder", "kept")
    finished = run(tmp_path, "select", "kept", "--best-of-group")
    assert [json.loads(line)["prompt"] for line in finished.stdout.splitlines()] == ["Say it.", "Say that."]
    assert all(json.loads(line)["response"] for line in finished.stdout.splitlines())
    assert "Left out: 4 not the best of its group" in finished.stderr
    assert "Left out: 1 a row that cannot be read" in finished.stderr
    run(tmp_path, "rescore", "kept", "--similarity", "f1:multilingual", "--run-folder", "again")
    assert run(tmp_path, "select", "again", "--top", "1").stdout.count("\n") == 6
