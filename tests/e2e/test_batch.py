"""`--batch` as a process: killed at any step, it goes on and asks nothing twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.command import read, run, start, write_rows
from tests.http.batch_server import BatchFault, BatchServer

ROWS = [{"instruction": f"say word{i}", "response": f"this is word{i}"} for i in range(40)]


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def score(server: BatchServer, *step: str) -> list[str]:
    options = ["--base-url", server.base_url, "--model", server.model, "--run-folder", "run", "--cache", "off"]
    return ["score", "rows.jsonl", *options, "--batch", *step]


@pytest.mark.parametrize(
    ("fault", "step"),
    [(BatchFault.SILENT, "submit"), (BatchFault.SLOW_FILE, "collect")],
)
def test_a_killed_step_is_taken_again(fault: BatchFault, step: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    with BatchServer(choose_batch={1: fault}) as server:
        if step == "collect":
            assert run(tmp_path, *score(server, "submit")).returncode == 0
        killed = start(tmp_path, *score(server, step, *(["--wait"] if step == "collect" else [])))
        wait_for(lambda: server.batches_made == 1 and (step == "submit" or server.downloads > 0))
        killed.kill()
        killed.communicate()
        assert run(tmp_path, *score(server, "submit")).returncode == 0
        assert server.batches_made == 1, "the batch is found again"
        finished = run(tmp_path, *score(server, "collect", "--wait"))
        assert finished.returncode == 0, finished.stderr
        assert set(server.custom_ids.values()) == {1}
        assert set(server.requests.values()) == {1}
    assert len(read(tmp_path / "run")) == len(ROWS)
    assert (tmp_path / "run/records.jsonl").read_bytes().count(b"\n") == len(ROWS)


def test_an_interrupted_wait_keeps_everything(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    with BatchServer(looks=10**6) as server:
        assert run(tmp_path, *score(server, "submit")).returncode == 0
        waiting = start(tmp_path, *score(server, "collect", "--wait"))
        wait_for(lambda: server.looked > 0)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=60)
        assert waiting.returncode == 130
        assert "Traceback" not in said
        assert "goes on" in said
        assert server.batches_made == 1
        looked = run(tmp_path, *score(server, "status"))
        assert "batch 1: in progress" in looked.stdout
