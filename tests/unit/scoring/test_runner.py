"""Runs of judges through the whole scoring path: groups are scored, recorded and resumed as a whole."""

import asyncio
import gc
import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flip_reward.core.judgement import measure_position_bias, read_judgements
from flip_reward.core.score import Outcome
from flip_reward.data.groups import SourceRow
from flip_reward.data.rows import InvalidRow
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import DataError, EngineServerError, StorageError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.flip import FlipReward
from flip_reward.rewards.judges.listwise import ListwiseJudge, ListwiseOptions
from flip_reward.rewards.judges.pairwise import PairwiseJudge
from flip_reward.scoring.job import ScoringJob, open_job
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records, read_records_in_input_order
from flip_reward.scoring.runner import RunLimits
from flip_reward.scoring.summary import Summary
from tests.unit.rewards.scripted_judges import ScriptedJudge, prefer, prefer_first

ROWS = [
    {"id": "fruit", "prompt": "Name a fruit.", "responses": ["Pear", "Bread", "Fig"]},
    {"id": "colour", "prompt": "Name a colour.", "responses": ["Red", "Bread"]},
    {"id": "alone", "prompt": "Name a town.", "response": "Lisbon"},
]
BY_RANK = prefer({"Bread": 0, "Red": 1, "Pear": 1, "Fig": 2})


class FailsOn:
    """A judge whose engine fails where a word is shown."""

    def __init__(self, word: str) -> None:
        self.word, self.judge = word, ScriptedJudge(BY_RANK)

    def __call__(self, request: Request) -> Completion:
        if self.word and f'"{self.word}"' in request.messages[-1].content:
            raise EngineServerError("broken")
        return self.judge(request)


def run(reward: RewardModel, folder: Path) -> Summary:
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    opened = open_job(ScoringJob(reward, [str(source)], folder / "run"))
    try:
        return asyncio.run(opened.run())
    finally:
        opened.folder.close()


def records(folder: Path) -> list[Record]:
    return list(read_records_in_input_order(folder / "run"))


def test_a_run_of_pairs(tmp_path: Path) -> None:
    summary = run(PairwiseJudge(ScriptedEngine(ScriptedJudge(BY_RANK))), tmp_path)
    assert {record.id: record.score.value for record in records(tmp_path)} == {
        "fruit#0": 0.5, "fruit#1": 0, "fruit#2": 1, "colour#0": 1, "colour#1": 0,
    }  # fmt: skip
    assert (summary.prompt_tokens, summary.completion_tokens) == (80, 8)
    assert summary.rejected_rows == 1
    [rejected] = (tmp_path / "run/rejected_rows.jsonl").read_text().splitlines()
    assert "there is only one" in json.loads(rejected)["reason"]
    explained = [record.score.reasoning for record in records(tmp_path) if record.score.reasoning]
    assert all("it is" in reasoning for reasoning in explained)


def test_the_rate_of_flips_can_be_counted_from_the_records(tmp_path: Path) -> None:
    run(PairwiseJudge(ScriptedEngine(ScriptedJudge(prefer_first))), tmp_path)
    judgements = [j for record in records(tmp_path)[:3] for j in read_judgements(record.score.raw_reply)]
    flips = measure_position_bias(judgements)
    assert (flips.pairs, flips.flips) == (3, 3)


def test_a_group_with_a_failure_is_judged_again_as_a_whole(tmp_path: Path) -> None:
    script = FailsOn("Pear")
    reward = ListwiseJudge(ScriptedEngine(script), ListwiseOptions(orders=2))
    summary = run(reward, tmp_path)
    assert summary.outcomes == {Outcome.ENGINE_FAILURE.value: 3, Outcome.SCORED.value: 2}
    assert not summary.complete
    script.word = ""
    summary = run(reward, tmp_path)
    assert summary.outcomes == {Outcome.SCORED.value: 5}
    assert [record.score.value for record in records(tmp_path)] == [0, 0, 1, 1, 0]
    assert len(script.judge.seen) == 4, "the settled group is not judged again"
    run(reward, tmp_path)
    assert len(script.judge.seen) == 4


class SlowTown(ScriptedEngine):
    """Answers at once, but waits before it answers about Lisbon, and notes what is on the disk meanwhile."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.recorded: list[str] = []

    async def complete(self, request: Request) -> Completion:
        if "Lisbon" in request.messages[-1].content:
            await asyncio.sleep(0.05)
            self.recorded = [record.id for record in read_records(self.folder / "run")]
        return await super().complete(request)


def test_what_is_scored_is_on_the_disk_before_the_run_waits_for_anything(tmp_path: Path) -> None:
    engine = SlowTown(tmp_path)
    assert run(FlipReward(engine), tmp_path).responses == 6
    assert sorted(engine.recorded) == ["colour#0", "colour#1", "fruit#0", "fruit#1", "fruit#2"]


def write_single_rows(folder: Path, count: int) -> str:
    rows = [{"id": f"row-{i}", "prompt": f"Say {i}.", "response": f"It is {i}."} for i in range(count)]
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(source)


def test_a_full_disk_ends_the_run_and_costs_no_row(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file size limit stands in for a full disk
    reward, source = FlipReward(ScriptedEngine(latency_seconds=0.01)), write_single_rows(tmp_path, 300)
    job = ScoringJob(reward, [source], tmp_path / "run", limits=RunLimits(workers=4))
    opened = open_job(job)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(StorageError, match=r"records\.jsonl"):
            asyncio.run(opened.run())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
        opened.folder.close()
    kept = len(records(tmp_path))
    assert 0 < kept < 300
    opened = open_job(job)
    assert (opened.folder.resumed_responses, asyncio.run(opened.run()).rows) == (kept, 300)
    opened.folder.close()
    assert [record.row for record in records(tmp_path)] == list(range(300))
    assert len(list(read_records(tmp_path / "run"))) == 300


def test_rows_before_one_that_cannot_be_read_are_scored(tmp_path: Path) -> None:
    reward = FlipReward(ScriptedEngine())
    opened = open_job(ScoringJob(reward, [write_single_rows(tmp_path, 100)], tmp_path / "run"))

    def fail_in_the_end() -> Iterator[SourceRow | InvalidRow]:
        yield from opened.read_rows()
        raise DataError("the disk is gone")

    with pytest.raises(DataError, match="the disk is gone"):
        asyncio.run(opened.run(rows=fail_in_the_end()))
    opened.folder.close()
    assert [record.row for record in records(tmp_path)] == list(range(100))


@pytest.mark.parametrize(("before", "within"), [((700, 10, 10), 50_000), ((90_000, 5, 5), 90_000), ((0, 10, 10), 0)])
def test_garbage_is_collected_seldom_while_a_run_goes_on(
    before: tuple[int, int, int], within: int, tmp_path: Path
) -> None:
    seen = list[int]()

    def reply(_: Request) -> Completion:
        seen.append(gc.get_threshold()[0])
        return Completion("Name a fruit.")

    usual = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        run(FlipReward(ScriptedEngine(reply)), tmp_path)
        assert set(seen) == {within}
        assert gc.get_threshold() == before
    finally:
        gc.set_threshold(*usual)
