"""Shards as processes: killed, queued again and merged."""

import json
import random
import time
from pathlib import Path

import pytest

from flip_reward.scoring.shards.spec import ShardSpec
from tests.e2e.command import run, start, write_rows
from tests.http.fault_server import FaultServer

ROWS = [{"id": f"row-{i}", "instruction": f"say word{i}", "response": f"this is word{i}"} for i in range(200)]
ARRAY = {"ID": "2", "MIN": "1", "MAX": "3", "COUNT": "3", "STEP": "1"}


def read_rewards(path: Path) -> list[tuple[str, float]]:
    return [(row["id"], row["reward"]) for row in map(json.loads, path.read_text().splitlines())]


def test_killed_shards_go_on_and_finished_ones_ask_nothing(tmp_path: Path) -> None:
    source, chance = write_rows(tmp_path / "rows.jsonl", ROWS), random.Random(20261127)
    with FaultServer(latency_seconds=0.1) as server:
        arguments = ["score", source.name, "--base-url", server.base_url, "--model", server.model, "--cache", "off"]
        arguments += ["--concurrency", "8"]
        whole = run(tmp_path, *arguments, "--run-folder", "whole", "-o", "whole.jsonl", "--concurrency", "64")
        assert whole.returncode == 0, whole.stderr
        server.requests.clear()
        killed = [start(tmp_path, *arguments, "--run-folder", "parts", "--shard", f"{i}/3") for i in (1, 2)]
        records = [tmp_path / f"parts/shards/000{i}/records.jsonl" for i in (1, 2)]
        deadline = time.monotonic() + 60
        while not all(path.exists() and path.stat().st_size for path in records) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        for process in killed:
            process.kill()
            process.communicate()
            assert process.returncode == -9
        early = run(tmp_path, "merge", "parts", "-o", "parts.jsonl")
        assert (early.returncode, "1, 2 unfinished" in early.stderr, "3 missing" in early.stderr) == (2, True, True)
        for i in (1, 2, 3):
            again = run(tmp_path, *arguments, "--run-folder", "parts", "--shard", f"{i}/3")
            assert again.returncode == 0, again.stderr
        assert sum(server.requests.values()) <= len(ROWS) + 16, "more was asked again than had been in flight"
        server.requests.clear()
        array = {f"SLURM_ARRAY_TASK_{name}": value for name, value in ARRAY.items()}
        queued = run(tmp_path, *arguments, "--run-folder", "parts", "--shard", "auto", **array)
        assert (queued.returncode, "is done" in queued.stderr) == (0, True)
        assert not server.requests
    merged = run(tmp_path, "merge", "parts", "-o", "parts.jsonl")
    assert merged.returncode == 0, merged.stderr
    assert read_rewards(tmp_path / "parts.jsonl") == read_rewards(tmp_path / "whole.jsonl")
    assert "3 of 3 shards" in run(tmp_path, "runs", "--folder", ".").stdout


def test_more_shards_than_rows_end_well(tmp_path: Path) -> None:
    arguments = ["score", write_rows(tmp_path / "rows.jsonl", ROWS[:2]).name, "--model", "scripted"]
    for i in range(1, 6):
        scored = run(tmp_path, *arguments, "--shard", f"{i}/5")
        assert scored.returncode == 0, scored.stderr
    assert "5 of 5 done; 'flip-reward merge runs/rows-flip-scripted-" in scored.stdout
    [parent] = (tmp_path / "runs").iterdir()
    again = run(tmp_path, *arguments, "--shard", "1/5", "--json")
    assert (again.returncode, "model:" in again.stderr) == (0, False)
    assert json.loads(again.stdout)["run_folder"] in (None, f"runs/{parent.name}/shards/0001")
    merged = run(tmp_path, "merge", str(parent), "--json")
    assert (merged.returncode, json.loads(merged.stdout)["rows"]) == (0, 2)
    before = (tmp_path / "rows.jsonl").read_bytes()
    (parent / "merged/records.jsonl").unlink()
    refused = run(tmp_path, "merge", str(parent), "-o", "rows.jsonl")
    assert (refused.returncode, "is an input" in refused.stderr) == (2, True)
    [records, *_] = parent.glob("shards/*/records.jsonl")
    refused = run(tmp_path, "merge", str(parent), "-o", str(records))
    assert (refused.returncode, "lies in the run folder" in refused.stderr) == (2, True)
    assert (tmp_path / "rows.jsonl").read_bytes() == before
    assert not (parent / "merged/records.jsonl").exists(), "it is refused before anything is merged"
    reported = run(tmp_path, "report", str(parent))
    assert (reported.returncode, "flip-reward merge" in reported.stderr) == (2, True)


def test_a_dry_run_shows_the_rows_of_the_shard(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", ROWS[:6])
    for i in (1, 2):
        shown = run(tmp_path, "score", source.name, "--model", "scripted", "--shard", f"{i}/2", "--dry-run").stdout
        held = [number for number in range(6) if ShardSpec(number=i, count=2).holds(number)][:3]
        assert [number for number in range(6) if f"this is word{number}" in shown] == held


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", "0/3"], "--shard auto knows the number"),
        (["--shard", "4/3"], "there is no shard 4 of 3"),
        (["--shard", "auto"], "SLURM_ARRAY_TASK_ID"),
        (["--shard", "1/3", "-o", "out.csv"], "'flip-reward merge -o'"),
        (["--shard", "1/3", "--run-folder", "gs://bucket/run"], "gs://bucket/run is an address"),
        (["--run-folder", "s3://bucket/run"], "s3://bucket/run is an address"),
    ],
)
def test_mistakes_are_told_before_a_model_loads(options: list[str], said: str, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", ROWS[:2])
    refused = run(tmp_path, "score", source.name, "--model", "scripted", *options)
    assert (refused.returncode, "model:" in refused.stderr) == (2, False)
    assert said in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
