"""The command, synchronous and asynchronous Python give the same score for the same input and model."""

import asyncio
import json
from pathlib import Path

import pytest

from flip_reward import Group, RewardConfig, RewardModel
from tests.e2e.command import read, run
from tests.http.fault_server import FaultServer

EXAMPLES = Path(__file__).parents[2] / "examples/responses.jsonl"
SCORES = list[list[float | None]]


def example_groups() -> list[Group]:
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
    return [Group.of(row.get("instruction") or row["messages"], row["responses"], id=row["id"]) for row in rows]


def from_command(folder: Path, *arguments: str) -> SCORES:
    finished = run(folder, "score", str(EXAMPLES), "--cache", "off", "--run-folder", "run", *arguments)
    assert finished.returncode == 0, finished.stderr
    scores: SCORES = [[] for _ in example_groups()]
    for record in read(folder / "run"):
        scores[record.row].append(record.score.value)
    return scores


def from_python(reward: RewardModel) -> SCORES:
    return [[score.value for score in scores] for scores in reward.score_sync(example_groups())]


def from_async_python(reward: RewardModel) -> SCORES:
    async def score() -> SCORES:
        try:
            return [[score.value for score in scores] for scores in await reward.score(example_groups())]
        finally:
            await reward.aclose()

    return asyncio.run(score())


def test_over_http(tmp_path: Path) -> None:
    with FaultServer() as server:
        command = from_command(tmp_path, "--base-url", server.base_url, "--model", server.model)
        reward = RewardConfig(model=server.model, base_url=server.base_url).load()
        assert command == from_python(reward) == from_async_python(reward)
    assert any(value not in (None, 0.0) for scores in command for value in scores)


@pytest.mark.parametrize("model", ["embedded", "llama.cpp:embedded"])
@pytest.mark.slow
def test_in_this_process(tmp_path: Path, model: str) -> None:
    command = from_command(tmp_path, "--model", model, "--max-tokens", "48", "-t", "compact")
    reward = RewardConfig(model=model, template="compact", max_tokens=48).load()
    assert command == from_python(reward) == from_async_python(reward)
    assert any(value not in (None, 0.0) for scores in command for value in scores)
