"""Runs whose rows are scored in workers of a small cluster: they are as those of one process."""

import asyncio
import json
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flip_reward import RewardConfig
from flip_reward.cli.app import app
from flip_reward.core.score import Cost, Outcome
from flip_reward.distributed import RayScorer, Workers
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import EngineUnavailableError, FlipRewardError, OptionError, RunStoppedError
from flip_reward.scoring.job import ScoringJob, open_job
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records, read_records_in_input_order
from flip_reward.scoring.runner import RunLimits
from flip_reward.scoring.summary import Summary
from tests.http.fault_server import Fault, FaultServer, from_then_on
from tests.unit.distributed.killing import killing_workers

pytestmark = pytest.mark.usefixtures("cluster")

ROWS: list[dict[str, Any]] = [
    {"id": f"row {n}", "prompt": f"Name fruit number {n}.", "responses": [f"Fruit {n}.", f"Pear {n}."]}
    for n in range(40)
]
ODD: list[dict[str, Any]] = [
    {"id": "odd", "prompt": None, "responses": ["A fig."]},
    {"id": "blank", "prompt": "Hi", "responses": ["", "Ho"]},
]


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def score(config: RewardConfig, source: str, folder: Path, stop: StopSignal | None = None) -> Summary:
    """Score in this process."""
    return run(ScoringJob(config.load(), [source], folder), stop)


def score_on_ray(
    config: RewardConfig, source: str, folder: Path, stop: StopSignal | None = None, workers: int = 1
) -> Summary:
    """Score in workers."""
    with closing(RayScorer(config, "local", Workers(workers, workers))) as scorer:
        limits = RunLimits(scorer.rows_at_once)
        return run(ScoringJob(scorer.load_reward(), [source], folder, scorer=scorer, limits=limits), stop)


def run(job: ScoringJob, stop: StopSignal | None) -> Summary:
    opened = open_job(job)
    with closing(opened.folder):
        return asyncio.run(opened.run(stop=stop))


def records(folder: Path) -> list[Record]:
    """The records without how long they took."""
    found = read_records_in_input_order(folder)
    return [replace(one, score=replace(one.score, cost=replace(one.score.cost, latency_seconds=0))) for one in found]


@pytest.mark.parametrize(
    "settings",
    [
        {"reward": "flip"},
        {"reward": "listwise"},
        {"reward": "longest"},
        {"reward": "0.5*pointwise + 0.3*pairwise + 0.2*longest"},
    ],
    ids=lambda settings: settings["reward"],
)
def test_a_run_in_workers_is_that_of_one_process(settings: dict[str, str], tmp_path: Path) -> None:
    source = write(tmp_path, [*ROWS, *ODD])
    config = RewardConfig(**settings, **({} if settings["reward"] == "longest" else {"model": "scripted"}))
    here, there = (
        score(config, source, tmp_path / "here"),
        score_on_ray(config, source, tmp_path / "there", workers=2),
    )
    assert records(tmp_path / "there") == records(tmp_path / "here")
    assert there.outcomes == here.outcomes
    assert there.rejected_rows == here.rejected_rows == 1
    assert (tmp_path / "there/rejected_rows.jsonl").read_text() == (tmp_path / "here/rejected_rows.jsonl").read_text()
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("here", "there")]
    assert manifests[0]["configuration"] == manifests[1]["configuration"]


def test_workers_that_are_killed_as_they_begin_are_begun_again() -> None:
    config = RewardConfig(model="scripted")
    with killing_workers(6, seed=1, name="ScoringActor", every_seconds=(0, 0.3)) as killed:
        while len(killed) < 6:
            RayScorer(config, "local", Workers(2, 2)).close()


def test_workers_that_are_killed_lose_no_row(tmp_path: Path) -> None:
    rows = [{"prompt": f"Name fruit number {number}.", "response": f"Fruit {number}."} for number in range(300)]
    source = write(tmp_path, rows)
    with FaultServer(latency_seconds=0.15) as server:
        config = RewardConfig(model=server.model, base_url=server.base_url, concurrency=4)
        with killing_workers(10, seed=18, name="ScoringActor") as killed:
            summary = score_on_ray(config, source, tmp_path / "killed", workers=2)
        asked = server.requests.total()
        score(replace_concurrency(config, 64), source, tmp_path / "calm")
    assert len(killed) == 10
    assert summary.complete
    assert len(list(read_records(tmp_path / "killed"))) == len(rows)  # nothing is recorded twice
    assert without_cost(records(tmp_path / "killed")) == without_cost(records(tmp_path / "calm"))
    assert asked <= len(rows) + 10 * 2 * 4  # only what was not answered is asked again


def replace_concurrency(config: RewardConfig, concurrency: int) -> RewardConfig:
    return config.updated(engine=replace(config.engine, concurrency=concurrency))


def without_cost(found: list[Record]) -> list[Record]:
    return [replace(one, score=replace(one.score, cost=Cost())) for one in found]


def test_what_failed_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    source = write(tmp_path, ROWS[:20])

    def some_fail(prompt: str, number: int) -> Fault | None:
        return Fault.SERVER_ERROR if number == 1 and "Fruit 1" in prompt else None

    with FaultServer(some_fail) as server:
        config = RewardConfig(model=server.model, base_url=server.base_url, max_attempts=1)
        first = score_on_ray(config, source, tmp_path / "run")
        failed = first.outcomes[Outcome.ENGINE_FAILURE.value]
        before = server.requests.total()
        second = score(config, source, tmp_path / "run")  # without the cluster
        assert server.requests.total() - before == failed > 0
    assert not first.complete
    assert second.complete


def test_a_run_that_is_stopped_goes_on_elsewhere(tmp_path: Path) -> None:
    source = write(tmp_path, ROWS[:40])
    stop = StopSignal()

    def stop_soon(_prompt: str, _number: int) -> None:
        if server.requests.total() >= 10:
            stop.requested = True

    with FaultServer(stop_soon, latency_seconds=0.3) as server:
        config = RewardConfig(model=server.model, base_url=server.base_url, concurrency=4)
        summary = score_on_ray(config, source, tmp_path / "run", stop)
        assert summary.interrupted
        assert 0 < summary.responses < 80
        assert score(replace_concurrency(config, 64), source, tmp_path / "run").complete
    assert server.requests.total() == 80
    assert len(list(read_records(tmp_path / "run"))) == 80


def test_a_server_that_is_lost_ends_the_run(tmp_path: Path) -> None:
    rows = [{"prompt": f"Name fruit number {number}.", "response": f"Fruit {number}."} for number in range(300)]
    source = write(tmp_path, rows)
    with FaultServer(from_then_on(Fault.SERVER_ERROR, after=100)) as server:
        config = RewardConfig(model=server.model, base_url=server.base_url, max_attempts=1, concurrency=4)
        with pytest.raises(RunStoppedError, match="times in a row"):
            score_on_ray(config, source, tmp_path / "run")


def test_a_key_that_is_wrong_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, ROWS)
    with FaultServer(api_key="right") as server:
        config = RewardConfig(model=server.model, base_url=server.base_url, api_key_env="MY_KEY")
        monkeypatch.setenv("MY_KEY", "wrong")
        with pytest.raises(EngineUnavailableError, match="401"):
            score_on_ray(config, source, tmp_path / "run")
        monkeypatch.setenv("MY_KEY", "right")
        assert score_on_ray(config, source, tmp_path / "run").scored_any


def test_a_worker_without_the_model_is_named_by_its_node(tmp_path: Path) -> None:
    with (
        closing(RayScorer(RewardConfig(model=str(tmp_path / "none.gguf")), "local", Workers(1, 1))) as scorer,
        pytest.raises(FlipRewardError, match=r"none.gguf.*\(on node "),
    ):
        scorer.load_reward()


def test_a_row_that_kills_every_worker_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly.py").write_text("import os\n\ndef end(prompt, response):\n    os._exit(1)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    source = write(tmp_path, ROWS[:1])
    begun = time.monotonic()
    with pytest.raises(RunStoppedError, match="died 5 times in a row"):
        score_on_ray(RewardConfig(reward="deadly:end"), source, tmp_path / "run")
    assert time.monotonic() - begun < 90


def test_the_command_scores_in_workers(tmp_path: Path) -> None:
    arguments = ["score", write(tmp_path, ROWS[:3]), "--model", "scripted", "--run-folder", str(tmp_path / "run")]
    assert isinstance(CliRunner().invoke(app, [*arguments, "--ray-workers", "1"]).exception, OptionError)
    shown = CliRunner().invoke(app, [*arguments, "--ray=local", "--ray-workers", "1"])
    assert shown.exit_code == 0
    assert "ray: 1 worker, on this machine" in shown.output
    assert len(list(read_records(tmp_path / "run"))) == 6
