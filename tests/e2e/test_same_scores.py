"""The command, synchronous and asynchronous Python give the same score for the same input and model."""

import asyncio
import json
from pathlib import Path

from flip_reward import FlipReward, Group
from tests.e2e.command import read, run
from tests.http.fault_server import FaultServer

EXAMPLES = Path(__file__).parents[2] / "examples/responses.jsonl"
SCORES = list[list[float | None]]


def example_groups() -> list[Group]:
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
    return [Group.of(row.get("instruction") or row["messages"], row["responses"], id=row["id"]) for row in rows]


def from_command(folder: Path, *arguments: str) -> SCORES:
    finished = run(folder, "score", str(EXAMPLES), "--cache", "off", "-r", "run", *arguments)
    assert finished.returncode == 0, finished.stderr
    scores: SCORES = [[] for _ in example_groups()]
    for record in read(folder / "run"):
        scores[record.row].append(record.score.value)
    return scores


def from_python(reward: FlipReward) -> SCORES:
    return [[score.value for score in scores] for scores in reward.score_sync(example_groups())]


def from_async_python(reward: FlipReward) -> SCORES:
    async def score() -> SCORES:
        try:
            return [[score.value for score in scores] for scores in await reward.score(example_groups())]
        finally:
            await reward.engine.aclose()

    return asyncio.run(score())


def test_over_http(tmp_path: Path) -> None:
    with FaultServer() as server:
        command = from_command(tmp_path, "--base-url", server.base_url, "--model", server.model)
        reward = FlipReward.from_model(server.model, base_url=server.base_url)
        assert command == from_python(reward) == from_async_python(reward)
    assert any(value not in (None, 0.0) for scores in command for value in scores)


def test_in_this_process(tmp_path: Path) -> None:
    command = from_command(tmp_path, "--model", "embedded", "--max-tokens", "48", "-t", "compact")
    from flip_reward import FlipOptions, Sampling
    from flip_reward.core.prompts import load_templates

    options = FlipOptions(load_templates("compact"), sampling=Sampling(max_tokens=48))
    reward = FlipReward.from_model("embedded", options=options)
    assert command == from_python(reward) == from_async_python(reward)
    assert any(value not in (None, 0.0) for scores in command for value in scores)
