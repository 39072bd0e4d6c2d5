"""The recipes under examples/scale, with a stand-in for vLLM and a scheduler that kills."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flip_reward.scoring.records import Record
from tests.e2e.command import COMMAND, environment, run, write_rows
from tests.e2e.test_kill import records_on_disk, without_time
from tests.http.fault_server import FaultServer

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples/scale"
MODEL = "test/model"
SHARDS = 3
VLLM = f"""#!{sys.executable}
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.http.fault_server import FaultServer
assert sys.argv[1] == "serve"
open({{started!r}}, "a").write(sys.argv[2] + "\\n")
with FaultServer(model=sys.argv[2], port=int(sys.argv[sys.argv.index("--port") + 1]), latency_seconds=0.1):
    time.sleep(300)
"""
"""Answers as vLLM does, and notes that it was started."""


class Cluster:
    """A machine on which the recipes run, and a folder that all tasks share."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.parent, self.input = folder, folder / "run", folder / "rows.jsonl"
        self._started = folder / "started"
        (folder / "bin").mkdir()
        vllm = folder / "bin/vllm"
        vllm.write_text(VLLM.format(started=str(self._started)))
        vllm.chmod(0o755)

    @property
    def servers(self) -> int:
        """How many servers were started."""
        return len(self._started.read_text().splitlines()) if self._started.exists() else 0

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a task in a session of its own, as a scheduler does."""
        path = os.pathsep.join([str(self.folder / "bin"), str(COMMAND.parent), os.environ["PATH"]])
        given = {"INPUT": str(self.input), "PARENT": str(self.parent), "MODEL": MODEL, "PATH": path, **variables}
        return subprocess.Popen(
            ["bash", *command, "--concurrency", "2"],
            cwd=RECIPES,
            env=environment(self.folder, **given),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill_in_the_midst(self, task: subprocess.Popen[str], shard: Path) -> None:
        """Kill a task and all that it started, once it has recorded something."""
        deadline = time.monotonic() + 60
        while not records_on_disk(shard) and task.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(task.pid, signal.SIGKILL)
        task.communicate()
        assert records_on_disk(shard)
        assert not shard.with_name(f"{shard.name}.done").exists(), "the task ended before it could be killed"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    rows = [{"id": f"row-{i}", "instruction": f"say word{i}", "response": f"this is word{i}"} for i in range(90)]
    write_rows(tmp_path / "rows.jsonl", rows)
    return Cluster(tmp_path)


def finish(task: subprocess.Popen[str]) -> str:
    said, _ = task.communicate(timeout=120)
    assert task.returncode == 0, said
    return said


def undisturbed(cluster: Cluster) -> list[Record]:
    with FaultServer(model=MODEL) as server:
        address = ("--base-url", server.base_url, "--model", MODEL, "--cache", "off")
        finished = run(cluster.folder, "score", "rows.jsonl", *address, "--run-folder", "undisturbed")
    assert finished.returncode == 0, finished.stderr
    return without_time(cluster.folder / "undisturbed")


def test_a_slurm_array_of_which_a_task_is_killed_and_queued_again(cluster: Cluster) -> None:
    def submit(task: int) -> subprocess.Popen[str]:
        return cluster.start("slurm.sbatch", SLURM_ARRAY_TASK_ID=str(task), SHARDS=str(SHARDS))

    others = submit(1), submit(3)
    cluster.kill_in_the_midst(submit(2), cluster.parent / "shards/0002")
    for task in (*others, submit(2)):
        finish(task)
    assert cluster.servers == 4
    assert "complete" in finish(submit(3))
    assert cluster.servers == 4, "a finished shard started a server"
    merged = run(cluster.folder, "merge", "run", "-o", "scored.jsonl")
    assert merged.returncode == 0, merged.stderr
    assert without_time(cluster.parent / "merged") == undisturbed(cluster)


def test_a_lost_machine_goes_on_from_the_copy_in_a_bucket(cluster: Cluster) -> None:
    bucket = cluster.folder / "bucket"

    def launch(machine: str, shard: str) -> subprocess.Popen[str]:
        place = {"PARENT": str(cluster.folder / machine), "BUCKET": str(bucket), "COPY_SECONDS": "0.2"}
        return cluster.start("score_shard.sh", shard, **place)

    cluster.kill_in_the_midst(launch("lost", "1/2"), bucket / "shards/0001")
    copied = (bucket / "shards/0001/records.jsonl").read_bytes()
    finish(launch("first", "1/2"))
    finish(launch("second", "2/2"))
    kept = copied[: copied.rfind(b"\n") + 1]
    assert (bucket / "shards/0001/records.jsonl").read_bytes().startswith(kept), "copied records were asked again"
    merged = run(cluster.folder, "merge", "bucket")
    assert merged.returncode == 0, merged.stderr
    assert without_time(bucket / "merged") == undisturbed(cluster)


def test_a_task_that_is_told_to_end_keeps_what_it_has(cluster: Cluster) -> None:
    task = cluster.start("score_shard.sh", "1/1")
    shard = cluster.parent / "shards/0001"
    while not records_on_disk(shard) and task.poll() is None:
        time.sleep(0.02)
    task.terminate()
    said, _ = task.communicate(timeout=60)
    assert task.returncode == 130, said
    assert 0 < records_on_disk(shard) < 90
    finish(cluster.start("score_shard.sh", "1/1"))
    assert records_on_disk(shard) == 90
