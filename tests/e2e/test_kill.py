"""kill -9 at any moment loses nothing that was finished, and nothing is asked twice."""

import csv
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flip_reward.scoring.records import Record
from tests.e2e.command import read, run, start, write_rows
from tests.http.fault_server import FaultServer

ROWS = [{"id": f"row-{i}", "instruction": f"say word{i}", "response": f"this is word{i}"} for i in range(800)]


def without_time(folder: Path) -> list[Record]:
    return [
        replace(record, score=replace(record.score, cost=replace(record.score.cost, latency_seconds=0.0, attempts=1)))
        for record in read(folder)
    ]


def write_plain(folder: Path) -> Path:
    return write_rows(folder / "rows.jsonl", ROWS)


def write_scattered(folder: Path) -> Path:
    """Four responses to each of 200 instructions, the first to all of them, then the second, and so on."""
    path = folder / "rows.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ticket", "instruction", "response"])
        table.writerows(
            [i % 200, f"say word{i % 200}", f"this is {'very ' * (i // 200)}word{i % 200}"] for i in range(800)
        )
    return path


@pytest.mark.parametrize("write", [write_plain, write_scattered])
def test_ten_kills_and_a_resume_equal_an_undisturbed_run(write: Callable[[Path], Path], tmp_path: Path) -> None:
    source = write(tmp_path)
    chance = random.Random(20261123)
    with FaultServer(latency_seconds=0.1) as server:
        arguments = ["score", source.name, "--base-url", server.base_url, "--model", server.model, "--cache", "off"]
        arguments += ["--concurrency", "8"]
        arguments += ["--group-by", "ticket"] if source.suffix == ".csv" else []
        undisturbed = run(tmp_path, *arguments, "--run-folder", "undisturbed", "--concurrency", "64")
        assert undisturbed.returncode == 0, undisturbed.stderr
        server.requests.clear()
        kills = 0
        while kills < 10:
            finished = records_on_disk(tmp_path / "run")
            process = start(tmp_path, *arguments, "--run-folder", "run")
            deadline = time.monotonic() + 60
            while records_on_disk(tmp_path / "run") == finished and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.6))
            process.kill()
            _, stderr = process.communicate()
            assert process.returncode == -9, f"the run ended before it could be killed: {stderr}"
            kills += 1
        settled = {(record.instruction, record.response_index) for record in read_whole_lines(tmp_path / "run")}
        asked_before = dict(server.requests)
        resumed = run(tmp_path, *arguments, "--run-folder", "run", "--concurrency", "64")
        assert resumed.returncode == 0, resumed.stderr
        asked_again = {
            prompt for prompt, count in server.requests.items() if asked_before.get(prompt, 0) not in (0, count)
        }
    assert without_time(tmp_path / "run") == without_time(tmp_path / "undisturbed")
    assert settled, "the kills came too early to show anything"
    for instruction, index in settled:
        word = instruction.removeprefix("say ")
        assert not any(prompt.endswith(f"this is {'very ' * index}{word}") for prompt in asked_again)
    lines = (tmp_path / "run/records.jsonl").read_text().splitlines()
    assert len(lines) == len(ROWS), "a finished row has two records"


def records_on_disk(folder: Path) -> int:
    path = folder / "records.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def read_whole_lines(folder: Path) -> list[Record]:
    """The records a killed run left, without a half-written last one."""
    content = (folder / "records.jsonl").read_bytes()
    return [Record.from_line(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
