from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from flip_reward import Completion, FlipReward, Outcome, Request, Sampling, ScriptedEngine
from flip_reward.data.groups import SourceRow
from flip_reward.data.readers import open_input
from flip_reward.data.rows import InvalidRow
from flip_reward.data.shapes import Need
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import EngineServerError, RunError, StorageError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.judges.listwise import ListwiseJudge
from flip_reward.scoring.job import OpenedJob, ScoringJob, open_job
from flip_reward.selection import TieRule
from flip_reward.selection.candidates import Candidate, CandidateFile
from flip_reward.selection.policy import Policy, Rollout, SampledReward, open_for_candidates, with_candidates
from flip_reward.selection.results import Result, ResultLine, SelectionCounts, choose_in_run, write_results


class Flaky:
    """A policy that fails to draw the second candidate while it is told to."""

    def __init__(self) -> None:
        self.failing = True
        self.asked = 0

    def __call__(self, request: Request) -> Completion:
        self.asked += 1
        if self.failing and request.sampling.seed == 1:
            raise EngineServerError("overloaded")
        words = "say hello" if request.sampling.seed == 1 else "something else"
        return Completion(words)


class Silent:
    def sampled(self, candidate: Candidate) -> None: ...

    def row_sampled(self) -> None: ...


async def best_of_three(folder: Path, reward: RewardModel, policy: Policy) -> list[Result]:
    inputs = [str(folder / "rows.jsonl")]
    job = ScoringJob(SampledReward(reward, policy), inputs, folder=folder / "run", need=Need.PROMPTS)
    opened = open_job(job, open_source=lambda name: open_for_candidates(open_input(name)))
    with closing(opened.folder), CandidateFile(opened.folder.path, policy.count) as file:
        rollout = Rollout(policy, file, limits=job.limits, observer=Silent(), stop=StopSignal())
        await rollout.run(opened.read_rows(), job.reward)
        await opened.run(rows=with_candidates(opened.read_rows(), file, policy))
        rows = with_candidates(opened.read_rows(include_completed=True), file, policy)
        return list(choose_in_run(opened.folder.path, rows, tie_rule=TieRule.FIRST, seed=0))


def write_prompts(folder: Path, count: int = 1) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "say hello"}\n' * count)


@pytest.mark.parametrize("judged", [False, True])
async def test_a_candidate_that_failed_is_drawn_and_scored_by_the_next_session(tmp_path: Path, judged: bool) -> None:
    write_prompts(tmp_path, 2)
    flaky = Flaky()
    policy = Policy(ScriptedEngine(flaky), 3, Sampling(1.0, seed=0))
    judge = ListwiseJudge(ScriptedEngine(lambda _: '{"BEST_RESPONSE_INDEX": 1}'))
    reward: RewardModel = judge if judged else FlipReward(ScriptedEngine())
    first = await best_of_three(tmp_path, reward, policy)
    assert flaky.asked == 6
    assert [[score.outcome for score in result.scores] for result in first] == [
        [Outcome.SCORED, Outcome.ENGINE_FAILURE, Outcome.SCORED]
    ] * 2
    assert [result.selection.unscored for result in first] == [1, 1]
    assert all(result.selection.index in (0, 2) for result in first)
    flaky.failing = False
    second = await best_of_three(tmp_path, reward, policy)
    assert flaky.asked == 8, "only what failed is asked for again"
    assert judged or [result.selection.index for result in second] == [1, 1]
    assert {score.outcome for result in second for score in result.scores} == {Outcome.SCORED}
    candidates = ResultLine.of(second[0]).candidates
    assert [candidate.response for candidate in candidates] == ["something else", "say hello", "something else"]


def opened_run(folder: Path) -> OpenedJob:
    job = ScoringJob(FlipReward(ScriptedEngine()), [str(folder / "rows.jsonl")], folder=folder / "run")
    return open_job(job)


async def score_rows(folder: Path, *lines: str) -> Path:
    (folder / "rows.jsonl").write_text("".join(line + "\n" for line in lines))
    opened = opened_run(folder)
    with closing(opened.folder):
        await opened.run()
    return opened.folder.path


def choose(folder: Path) -> Iterator[Result]:
    opened = opened_run(folder)
    with closing(opened.folder):
        yield from choose_in_run(
            opened.folder.path, opened.read_rows(include_completed=True), tie_rule=TieRule.SHORTEST, seed=0
        )


LINES = (
    '{"id": "a", "prompt": "say a", "responses": ["say a now", "b"]}',
    "not json",
    '{"id": "b", "prompt": "say b", "responses": ["", " "]}',
    '{"id": "c", "prompt": "say c", "response": "c"}',
)


async def test_results_are_counted_and_written(tmp_path: Path) -> None:
    await score_rows(tmp_path, *LINES)
    tally = SelectionCounts()
    results = list(tally.count(choose(tmp_path)))
    assert [(result.row, result.group.id) for result in results] == [(0, "a"), (2, "b"), (3, "c")]
    assert (tally.rows, tally.decided, tally.single, tally.undecided) == (3, 2, 1, 1)
    for name in ("out.jsonl", "out.parquet"):
        write_results(tmp_path / name, results)
    from pyarrow import parquet

    rows = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == rows
    assert rows == [orjson.loads(orjson.dumps(ResultLine.of(result))) for result in results]
    for name in ("out.jsonl", "out.parquet"):
        with pytest.raises(StorageError):
            write_results(tmp_path / "missing" / name, results)


async def test_records_of_other_rows_are_refused(tmp_path: Path) -> None:
    run = await score_rows(tmp_path, *LINES)

    def rows(*wanted: int) -> Iterator[SourceRow | InvalidRow]:
        opened = opened_run(tmp_path)
        with closing(opened.folder):
            found = list(opened.read_rows(include_completed=True))
        return (found[position] for position in wanted)

    assert len(list(choose_in_run(run, rows(0, 1, 2, 3), tie_rule=TieRule.FIRST, seed=0))) == 3
    for wanted in ((), (0, 1), (1, 2, 3)):
        with pytest.raises(RunError, match="row"):
            list(choose_in_run(run, rows(*wanted), tie_rule=TieRule.FIRST, seed=0))
