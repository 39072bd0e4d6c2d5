"""A run that is asked to stop finishes the requests in flight, and the next session asks the rest, each once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from flip_reward.core.score import Outcome, Score
from flip_reward.engines.base import Completion, LogprobRequest, Request
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import EngineBusyError
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.flip import FlipReward
from flip_reward.rewards.judges.pairwise import PairwiseJudge
from flip_reward.rewards.judges.pointwise import PointwiseJudge
from flip_reward.scoring.job import ScoringJob, open_job
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records, read_records_in_input_order
from flip_reward.scoring.runner import RunLimits
from flip_reward.scoring.summary import Summary

SLOTS = 3
KINDS = {
    "flip": FlipReward,
    "pointwise": PointwiseJudge,
    "pairwise": PairwiseJudge,
    "backward-likelihood": BackwardLikelihoodReward,
}


class Model:
    """Answers whatever reward it is asked for, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[object] = Counter()
        self.engine = ScriptedEngine(self.reply, logprob_script=self.measure, latency_seconds=0.005)

    def reply(self, request: Request) -> Completion:
        self.asked[request] += 1
        verdicts = {"INFERRED INSTRUCTION": "say it", "SCORE": 3, "BETTER_RESPONSE": "A"}
        return Completion(json.dumps(next({key: value} for key, value in verdicts.items() if _wants(request, key))))

    def measure(self, request: LogprobRequest) -> list[float]:
        self.asked[request] += 1
        return [-1.0]


def _wants(request: Request, key: str) -> bool:
    return any(key in message.content for message in request.messages)


class StopsAfter:
    """Asks for a stop after some records, and remembers how many requests had begun."""

    def __init__(self, model: Model, stop: StopSignal, records: int) -> None:
        self._model, self._stop, self._left = model, stop, records
        self.begun = self.in_flight = 0

    def scored(self, scores: tuple[Score, ...]) -> None:
        self._left -= len(scores)
        if self._left <= 0 and not self._stop.requested:
            self._stop.requested = True
            self.begun, self.in_flight = self._model.engine.requests, self._stop.in_flight

    def rejected(self, row: object) -> None:
        raise AssertionError(row)


def score(reward: RewardModel, folder: Path, stop: StopSignal | None = None, observer: object = None) -> Summary:
    source = folder / "rows.jsonl"
    if not source.exists():
        rows = [{"prompt": f"say {row}", "responses": [f"{row} {word}" for word in "abcd"]} for row in range(12)]
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    opened = open_job(ScoringJob(reward, [str(source)], folder / "run", limits=RunLimits(workers=8)))
    try:
        return asyncio.run(opened.run(stop=stop, observer=observer))  # type: ignore[arg-type]
    finally:
        opened.folder.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_for_a_slot_is_dropped(tmp_path: Path, kind: str) -> None:
    model, stop = Model(), StopSignal()
    reward = KINDS[kind](build_stack(model.engine, concurrency=SLOTS))
    observer = StopsAfter(model, stop, 8)
    summary = score(reward, tmp_path, stop, observer)
    assert summary.interrupted
    assert not summary.complete
    assert summary.outcomes.keys() == {"scored"}
    assert model.engine.requests == observer.begun
    assert 0 < observer.in_flight <= SLOTS
    assert stop.in_flight == 0

    resumed = score(reward, tmp_path)
    assert resumed.complete
    assert resumed.outcomes == {"scored": 48}
    if reward.independent:
        assert set(model.asked.values()) == {1}
    (tmp_path / "other").mkdir()
    score(KINDS[kind](Model().engine), tmp_path / "other")
    undisturbed = {(one.row, one.response_index): one.score.value for one in records(tmp_path / "other")}
    assert {(one.row, one.response_index): one.score.value for one in records(tmp_path)} == undisturbed
    assert len(list(read_records(tmp_path / "run"))) == 48


def records(folder: Path) -> list[Record]:
    return list(read_records_in_input_order(folder / "run"))


def test_what_waits_to_be_sent_again_is_dropped(tmp_path: Path) -> None:
    stop = StopSignal()

    def refuse(_: Request) -> Completion:
        stop.requested = True
        raise EngineBusyError("slow down", retry_after_seconds=100)

    stack = build_stack(ScriptedEngine(refuse), concurrency=SLOTS, retry=RetryPolicy(max_attempts=3))
    summary = score(FlipReward(stack), tmp_path, stop)
    assert summary.interrupted
    assert summary.seconds < 50
    assert summary.responses == 0


def test_failures_while_stopping_are_left_to_the_next_session(tmp_path: Path) -> None:
    stop = StopSignal()

    def refuse(_: Request) -> Completion:
        stop.requested = True
        raise EngineBusyError("slow down")

    stack = build_stack(ScriptedEngine(refuse), concurrency=SLOTS, retry=RetryPolicy(max_attempts=1))
    assert score(FlipReward(stack), tmp_path, stop).responses == 0
    assert score(FlipReward(Model().engine), tmp_path).outcomes == {Outcome.SCORED.value: 48}
