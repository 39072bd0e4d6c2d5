"""kill -9 at any moment loses nothing that was finished, and nothing is asked twice."""

import random
import time
from dataclasses import replace
from pathlib import Path

from flip_reward.scoring.records import Record
from tests.e2e.command import read, run, start, write_rows
from tests.http.fault_server import FaultServer

ROWS = [{"id": f"row-{i}", "instruction": f"say word{i}", "response": f"this is word{i}"} for i in range(800)]


def without_time(folder: Path) -> list[Record]:
    return [
        replace(record, score=replace(record.score, cost=replace(record.score.cost, latency_seconds=0.0, attempts=1)))
        for record in read(folder)
    ]


def test_ten_kills_and_a_resume_equal_an_undisturbed_run(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    chance = random.Random(20261123)
    with FaultServer(latency_seconds=0.1) as server:
        arguments = ["score", "rows.jsonl", "--base-url", server.base_url, "--model", server.model, "--cache", "off"]
        arguments += ["--concurrency", "8"]
        undisturbed = run(tmp_path, *arguments, "-r", "undisturbed", "--concurrency", "64")
        assert undisturbed.returncode == 0, undisturbed.stderr
        server.requests.clear()
        kills = 0
        while kills < 10:
            finished = records_on_disk(tmp_path / "run")
            process = start(tmp_path, *arguments, "-r", "run")
            deadline = time.monotonic() + 60
            while records_on_disk(tmp_path / "run") == finished and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.6))
            process.kill()
            process.communicate()
            assert process.returncode == -9, "the run ended before it could be killed"
            kills += 1
        settled = {record.instruction for record in read_whole_lines(tmp_path / "run")}
        asked_before = dict(server.requests)
        resumed = run(tmp_path, *arguments, "-r", "run", "--concurrency", "64")
        assert resumed.returncode == 0, resumed.stderr
        asked_again = {
            prompt for prompt, count in server.requests.items() if asked_before.get(prompt, 0) not in (0, count)
        }
    assert without_time(tmp_path / "run") == without_time(tmp_path / "undisturbed")
    assert settled, "the kills came too early to show anything"
    for instruction in settled:
        word = instruction.removeprefix("say ")
        assert not any(prompt.endswith(f"this is {word}") for prompt in asked_again)
    lines = (tmp_path / "run/records.jsonl").read_text().splitlines()
    assert len(lines) == len(ROWS), "a finished row has two records"


def records_on_disk(folder: Path) -> int:
    path = folder / "records.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def read_whole_lines(folder: Path) -> list[Record]:
    """The records a killed run left, without a half-written last one."""
    content = (folder / "records.jsonl").read_bytes()
    return [Record.from_line(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
