"""What a server says about its replies reaches the person at the command; a run without a reward is no success."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flip_reward.core.score import Outcome
from flip_reward.engines.cache import ResponseCache
from flip_reward.scoring.manifest import Manifest
from tests.e2e.command import read, run, write_rows
from tests.http.fault_server import Fault, FaultServer
from tests.http.picky_server import PickyServer

ROWS: list[dict[str, Any]] = [
    {"id": str(number), "instruction": "Name three fruits.", "response": f"Apples, pears and {number} plums."}
    for number in range(3)
]


def ask(folder: Path, server: FaultServer, command: str, *options: str, cached: str = "off") -> tuple[int, str]:
    finished = run(
        folder, command, "rows.jsonl", "--base-url", server.base_url, "--model", server.model,
        "--cache", cached, "--max-attempts", "1", "--run-folder", "run", *options,
    )  # fmt: skip
    return finished.returncode, finished.stdout + finished.stderr


def test_a_model_that_only_reasons_is_told_of_and_is_no_success(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    with FaultServer(lambda _prompt, _number: Fault.NULL_CONTENT) as server:
        status, said = ask(tmp_path, server, "score")
    assert status == 3
    assert "empty_reply, such as: the model put everything into its reasoning" in said
    assert {record.score.outcome for record in read(tmp_path / "run")} == {Outcome.EMPTY_REPLY}
    assert all("--no-thinking" in str(record.score.detail) for record in read(tmp_path / "run"))
    assert run(tmp_path, "rescore", "run", "--similarity", "f1").returncode == 3


@pytest.mark.parametrize(
    "rows", [[{"instruction": " ", "responses": ["Pear.", "Plum."]}], [{"instruction": "Hi", "responses": [" ", ""]}]]
)
def test_a_run_without_a_reward_is_no_success_whatever_the_reason(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", rows)
    for command in ("score", "best-of-n"):
        assert run(tmp_path, command, "rows.jsonl", "--model", "scripted", "--run-folder", command).returncode == 3


def test_an_evaluation_without_a_verdict_is_no_success_also_when_it_is_resumed(tmp_path: Path) -> None:
    pairs = [{"prompt": "Name a fruit.", "chosen": f"Pear {n}", "rejected": f"Bread {n}"} for n in range(3)]
    write_rows(tmp_path / "pairs.jsonl", pairs)
    with FaultServer(lambda _prompt, _number: Fault.NULL_CONTENT) as server:
        for _ in range(2):
            finished = run(
                tmp_path, "evaluate", "-b", "pairs.jsonl", "--base-url", server.base_url, "-m", server.model,
                "--cache", "off", "-r", "flip", "--run-folder", "evaluation",
            )  # fmt: skip
            assert finished.returncode == 3, finished.stderr


def test_how_requests_were_changed_is_said_once_and_kept(tmp_path: Path) -> None:
    def refuse(body: dict[str, Any]) -> str | None:
        if "max_tokens" in body:
            return "Unsupported parameter: use 'max_completion_tokens' instead of 'max_tokens'."
        return "'temperature' does not support 0: only the default (1) is." if "temperature" in body else None

    write_rows(tmp_path / "rows.jsonl", ROWS)
    with PickyServer(refuse) as server:
        status, _ = ask(tmp_path, server, "score", cached="answers.sqlite3")
        assert status == 0
    [session] = Manifest.read(tmp_path / "run" / "manifest.json").sessions
    assert [text.split()[0] for text in session.adaptations] == ["max_completion_tokens", "temperature"]
    with ResponseCache(tmp_path / "answers.sqlite3") as cache:
        assert cache.info().entries == 0


def test_null_in_the_extra_body_leaves_a_field_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    with PickyServer(lambda _: None) as server:
        extra = json.dumps({"seed": None})
        status, _ = ask(tmp_path, server, "score", "--temperature", "0.7", "--seed", "1", "--extra-body", extra)
        assert status == 0
    assert {"seed" in received.body for received in server.received} == {False}
