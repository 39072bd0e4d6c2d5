"""Runs of judges through the whole scoring path: groups are scored, recorded and resumed as a whole."""

import asyncio
import json
from pathlib import Path

from flip_reward.core.judgement import measure_position_bias, read_judgements
from flip_reward.core.score import Outcome
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineServerError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.judges.listwise import ListwiseJudge, ListwiseOptions
from flip_reward.rewards.judges.pairwise import PairwiseJudge
from flip_reward.scoring.job import ScoringJob, open_job
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records_in_input_order
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
