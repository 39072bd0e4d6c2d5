"""Ray Data sets: scored lazily, written with a checkpoint, and gone on with."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from flip_reward import RewardConfig
from flip_reward.distributed import score_dataset, write_scored
from flip_reward.errors import DataError, EngineUnavailableError, OptionError
from tests.http.fault_server import Fault, FaultServer
from tests.unit.distributed.killing import killing_workers

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:The minimum number of concurrent actors:UserWarning"),
]

SCRIPTED = RewardConfig(model="scripted")
ROWS: list[dict[str, Any]] = [
    {"id": f"row {n}", "prompt": f"Name fruit number {n}.", "response": f"Fruit {n}."} for n in range(60)
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    context = ray.data.DataContext.get_current()
    before, context.enable_progress_bars = context.enable_progress_bars, False
    yield
    context.enable_progress_bars = before


def read(folder: Path, rows: list[dict[str, Any]]) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ray.data.read_json(str(path), override_num_blocks=2)


def by_id(ds: Any) -> list[dict[str, Any]]:
    return sorted(ds.take_all(), key=lambda row: str(row["id"]))


def read_written(folder: str) -> list[dict[str, Any]]:
    return sorted(parquet.read_table(folder).to_pylist(), key=lambda row: str(row["id"]))


def test_the_scores_are_those_of_one_process(tmp_path: Path) -> None:
    found = by_id(score_dataset(read(tmp_path, ROWS), SCRIPTED, workers=2, batch_size=16))
    rows = sorted(ROWS, key=lambda row: row["id"])
    assert found == SCRIPTED.load().score_sync(rows)


def test_a_row_is_a_group_and_columns_may_be_taken(tmp_path: Path) -> None:
    rows = [{"id": n, "question": f"Fruit {n}?", "responses": ["A", "B"], "reward": 7} for n in range(4)]
    rows += [{"id": n, "question": "Fruit?", "responses": ["A"], "reward": 7} for n in (4, 5)]
    config = RewardConfig(reward="listwise", model="scripted")
    columns = {"instruction": "question", "responses": "responses"}
    found = by_id(score_dataset(read(tmp_path, rows), config, columns=columns, workers=1))
    assert found[:4] == config.load().score_sync(rows[:4], columns=columns)
    for row in found[4:]:
        assert "there is only one" in row["detail"][0]


def test_a_stage_before_it_makes_the_responses(tmp_path: Path) -> None:
    prompts = [*(row["prompt"] for row in ROWS[:4]), "  "]  # the last cannot be read
    ds = read(tmp_path, [{"id": n, "prompt": prompt} for n, prompt in enumerate(prompts)])

    def answer(batch: dict[str, Any]) -> dict[str, Any]:  # what vLLM's stage of ray.data.llm does
        return batch | {"generated_text": [f"About {prompt}" for prompt in batch["prompt"]]}

    columns = {"instruction": "prompt", "response": "generated_text"}
    found = by_id(score_dataset(ds.map_batches(answer), SCRIPTED, columns=columns, workers=1))
    assert [row["outcome"] for row in found] == ["scored"] * 4 + ["rejected"]
    assert found[4]["reward"] is None
    assert "instruction" in found[4]["detail"]


def test_workers_that_are_killed_lose_no_row(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with FaultServer(latency_seconds=0.2) as server, killing_workers(4, seed=2, name="ScoreBatches") as killed:
        config = RewardConfig(model=server.model, base_url=server.base_url, concurrency=4)
        write_scored(read(tmp_path, ROWS), config, out, id_column="id", workers=2, batch_size=8)
    assert len(killed) == 4
    written = read_written(out)
    assert [row["id"] for row in written] == sorted(row["id"] for row in ROWS)
    assert {row["outcome"] for row in written} == {"scored"}


def test_what_failed_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    mended = threading.Event()

    def some_fail(prompt: str, _: int) -> Fault | None:
        return Fault.SERVER_ERROR if "Fruit 1" in prompt and not mended.is_set() else None

    with FaultServer(some_fail) as server:
        config = RewardConfig(model=server.model, base_url=server.base_url, max_attempts=1)
        ds = read(tmp_path, ROWS)
        write_scored(ds, config, out, id_column="id", workers=1)
        assert server.requests.total() == 60
        assert len(read_written(out)) == 49
        mended.set()
        write_scored(read(tmp_path, ROWS), config, out, id_column="id", workers=1)
        assert server.requests.total() == 71
    written = read_written(out)
    assert [row["id"] for row in written] == sorted(row["id"] for row in ROWS)
    assert {row["outcome"] for row in written} == {"scored"}
    assert ds.context.checkpoint_config is None


def test_a_server_that_is_not_there_is_the_packages_own_error(tmp_path: Path) -> None:
    config = RewardConfig(model="m", base_url="http://127.0.0.1:9/v1", max_attempts=1)
    with pytest.raises(EngineUnavailableError, match=r"refuses connections \(on node \S+\)\n"):
        write_scored(read(tmp_path, ROWS), config, str(tmp_path / "out"), id_column="id", workers=1)
    with pytest.raises(EngineUnavailableError, match="refuses connections"):
        score_dataset(read(tmp_path, ROWS), config, workers=1).take_all()


@pytest.mark.parametrize(
    ("column", "reason"), [("name", "no column 'name'"), ("group", "tell rows apart"), ("note", "tell rows apart")]
)
def test_no_checkpoint_without_an_id(column: str, reason: str, tmp_path: Path) -> None:
    rows = [row | {"group": n // 2, "note": None if n == 3 else str(n)} for n, row in enumerate(ROWS)]
    ds = read(tmp_path, rows)
    with pytest.raises(OptionError, match=reason):
        write_scored(ds, SCRIPTED, str(tmp_path / "out"), id_column=column, workers=1)
    assert not (tmp_path / "out.checkpoint").exists() or not list((tmp_path / "out.checkpoint").iterdir())


def test_no_checkpoint_of_rows_in_memory(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="not read from files"):
        write_scored(ray.data.from_items(ROWS), SCRIPTED, str(tmp_path / "out"), id_column="id")


def test_columns_that_are_not_known_are_asked_for_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="instruction"):
        score_dataset(read(tmp_path, [{"a": "b", "c": "d"}]), SCRIPTED)


def test_workers_without_room_are_refused_at_once(tmp_path: Path) -> None:
    ds = read(tmp_path, ROWS)
    with pytest.raises(OptionError, match=r"5 CPUs and reading 1; the cluster has 4"):
        score_dataset(ds, SCRIPTED, workers=20)
    with pytest.raises(OptionError, match="the filter of finished rows 2"):
        write_scored(ds, SCRIPTED, str(tmp_path / "out"), id_column="id", workers=20)
