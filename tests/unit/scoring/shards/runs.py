"""Runs in shards, with an engine that is a function."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from flip_reward.engines.base import Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.rewards.flip import FlipReward
from flip_reward.scoring.job import ScoringJob, open_job
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records_in_input_order
from flip_reward.scoring.shards.spec import ShardSpec
from flip_reward.scoring.summary import Summary


def infer(request: Request) -> str:
    """Infer "say" and the response's last word."""
    word = request.messages[-1].content.split()[-1]
    return json.dumps({"REASONING": "scripted", "INFERRED INSTRUCTION": f"say {word}"})


def write_rows(path: Path, rows: Sequence[dict[str, object] | str]) -> Path:
    """Write rows, or lines that are none."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def score(
    source: Path,
    folder: Path | None,
    shard: str | None = None,
    answer: Callable[[Request], str] = infer,
    **options: object,
) -> Summary:
    """Score a file, or a shard of it."""
    spec = None if shard is None else ShardSpec.parse(shard, {})
    job = ScoringJob(FlipReward(ScriptedEngine(answer)), [str(source)], folder, shard=spec, **options)  # type: ignore[arg-type]
    opened = open_job(job)
    with closing(opened.folder):
        return asyncio.run(opened.run())


def score_all(source: Path, parent: Path, count: int, **options: object) -> list[Summary]:
    """Score all shards, the last one first."""
    return [score(source, parent, f"{number}/{count}", **options) for number in range(count, 0, -1)]  # type: ignore[arg-type]


def read_without_time(folder: Path) -> list[Record]:
    """Read the records of a run, without how long each took."""
    return [
        replace(record, score=replace(record.score, cost=replace(record.score.cost, latency_seconds=0.0)))
        for record in read_records_in_input_order(folder)
    ]
