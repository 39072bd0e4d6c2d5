"""Runs with several inferences from each response: resumed, and compared another way."""

import asyncio
import json
from pathlib import Path

import pytest

from flip_reward.core.score import Aggregation, Outcome, Score
from flip_reward.core.similarity import Match, Reference, TokenF1
from flip_reward.engines.base import LogprobRequest, Request, Sampling
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineServerError, OptionError, RunError, RunMismatchError
from flip_reward.rewards.backward_likelihood import (
    BackwardLikelihoodOptions,
    BackwardLikelihoodReward,
    LikelihoodValue,
)
from flip_reward.rewards.calibration import CalibratedReward, Calibration, LogisticMap
from flip_reward.rewards.flip import FlipOptions, FlipReward
from flip_reward.scoring.job import ScoringJob, open_job
from flip_reward.scoring.rescore import rescore_run
from flip_reward.scoring.run_folder import read_records_in_input_order
from flip_reward.scoring.summary import Summary

INFERRED = ("say the a word", "say it", "nothing of it at all", "")
"""By seed; the last cannot be read."""
OPTIONS = FlipOptions(sampling=Sampling(0.7, seed=0), samples=4, aggregation=Aggregation.MAX)


class Length:
    """A similarity that no F1 agrees with: longer inferences are closer."""

    name = "length"

    def prepare(self, instruction: str) -> Reference:
        return LengthReference(empty=instruction == "say")


class LengthReference:
    def __init__(self, *, empty: bool) -> None:
        self.empty = empty

    def compare(self, inferred: str) -> Match:
        return Match(min(1.0, len(inferred) / 40))


def infer(request: Request) -> str:
    inferred = INFERRED[request.sampling.seed or 0]
    return json.dumps({"REASONING": f"because {inferred}", "INFERRED INSTRUCTION": inferred}) if inferred else "prose"


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": "say a word", "responses": ["word", ""]}, {"instruction": "say it", "response": "it"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run(engine: ScriptedEngine, folder: Path, source: str, options: FlipOptions = OPTIONS) -> Summary:
    opened = open_job(ScoringJob(FlipReward(engine, options), [source], folder))
    try:
        return asyncio.run(opened.run())
    finally:
        opened.folder.close()


def scores(folder: Path) -> list[Score]:
    return [record.score for record in read_records_in_input_order(folder)]


def test_a_resumed_run_asks_nothing_and_tries_failures_again(tmp_path: Path, source: str) -> None:
    failing = True

    def script(request: Request) -> str:
        if failing and request.sampling.seed == 2 and request.messages[-1].content.endswith("it"):
            raise EngineServerError("broken")
        return infer(request)

    engine = ScriptedEngine(script)
    assert run(engine, tmp_path / "run", source).outcomes == {"scored": 1, "empty_response": 1, "engine_failure": 1}
    failing = False
    summary = run(engine, tmp_path / "run", source)
    assert (summary.outcomes, summary.resumed_responses) == ({"scored": 2, "empty_response": 1}, 2)
    assert engine.requests == 4 + 3 + 4  # the third sample failed, and so did the request
    assert [len(score.samples) for score in scores(tmp_path / "run")] == [4, 0, 4]
    with pytest.raises(RunMismatchError, match="aggregation"):
        run(engine, tmp_path / "run", source, FlipOptions(sampling=OPTIONS.sampling, samples=4))


def test_rescoring_compares_every_sample_and_aggregates_as_the_run_did(tmp_path: Path, source: str) -> None:
    run(ScriptedEngine(infer), tmp_path / "run", source)
    before = scores(tmp_path / "run")
    folder, summary = rescore_run(tmp_path / "run", Length())
    after = scores(folder)
    assert summary.outcomes == {"scored": 2, "empty_response": 1}
    assert [score.value for score in before] == [1.0, None, 1.0]
    assert [score.value for score in after] == [20 / 40, None, 20 / 40], "the longest inference"
    assert (after[0].inferred_instruction, after[0].reasoning) == (INFERRED[2], f"because {INFERRED[2]}")
    assert [sample.value for sample in after[0].samples] == [14 / 40, 6 / 40, 20 / 40, None]
    assert after[0].samples[3].outcome is Outcome.UNPARSEABLE_REPLY
    assert after[0].detail == "left out: 1 unparseable_reply"
    assert (after[0].cost.usage, after[0].cost.attempts) == (before[0].cost.usage, before[0].cost.attempts)
    back, _ = rescore_run(folder, TokenF1(), tmp_path / "back")
    assert scores(back) == before


def test_a_run_is_not_rescored_into_itself(tmp_path: Path, source: str) -> None:
    run(ScriptedEngine(infer), tmp_path / "run", source)
    with pytest.raises(OptionError, match="the run itself"):
        rescore_run(tmp_path / "run", Length(), tmp_path / "run")


def test_rescoring_where_nothing_can_be_compared(tmp_path: Path, source: str) -> None:
    path = Path(source)
    path.write_text('{"instruction": "?", "response": "word"}\n{"instruction": "say", "response": "?"}\n')
    run(ScriptedEngine(infer), tmp_path / "run", source)
    before = scores(tmp_path / "run")
    folder, summary = rescore_run(tmp_path / "run", Length())
    assert [score.outcome for score in before] == [Outcome.EMPTY_INSTRUCTION, Outcome.SCORED]
    assert summary.outcomes == {"empty_instruction": 2}
    back, _ = rescore_run(folder, TokenF1(), tmp_path / "back")
    assert scores(back) == before


def read_after(request: LogprobRequest) -> list[float]:
    return [-1.0, -2.0] if "it" in request.prefix else [-3.0, -3.0]


def run_likelihood(value: LikelihoodValue, folder: Path, source: str, engine: ScriptedEngine | None = None) -> None:
    engine = engine or ScriptedEngine(logprob_script=read_after)
    reward = BackwardLikelihoodReward(engine, BackwardLikelihoodOptions("answer", likelihood_value=value))
    opened = open_job(ScoringJob(reward, [source], folder))
    try:
        asyncio.run(opened.run())
    finally:
        opened.folder.close()


@pytest.mark.parametrize("value", [LikelihoodValue.PMI, LikelihoodValue.SURPRISAL])
def test_every_value_is_made_of_a_run_that_asked_for_the_prior(
    tmp_path: Path, source: str, value: LikelihoodValue
) -> None:
    run_likelihood(value, tmp_path / "run", source)
    for other in LikelihoodValue:
        run_likelihood(other, tmp_path / other.value, source)
        folder, summary = rescore_run(tmp_path / "run", other)
        assert folder.name == other.value
        assert summary.outcomes == {"scored": 2, "empty_response": 1}
        assert [one.value for one in scores(folder)] == [one.value for one in scores(tmp_path / other.value)]


def test_a_value_that_the_records_do_not_hold_is_refused_before_anything_is_written(
    tmp_path: Path, source: str
) -> None:
    run_likelihood(LikelihoodValue.SUM, tmp_path / "run", source)
    with pytest.raises(RunError, match="without the response") as caught:
        rescore_run(tmp_path / "run", LikelihoodValue.SURPRISAL)
    assert "--likelihood-value surprisal" in (caught.value.hint or "")
    assert not (tmp_path / "run/rescored").exists()
    folder, _ = rescore_run(tmp_path / "run", LikelihoodValue.MEAN)
    assert [one.value for one in scores(folder)] == [-3.0, None, -1.5]


def test_a_run_has_inferences_or_likelihoods(tmp_path: Path, source: str) -> None:
    run(ScriptedEngine(infer), tmp_path / "run", source)
    with pytest.raises(RunError, match="no likelihoods"):
        rescore_run(tmp_path / "run", LikelihoodValue.SUM)
    run_likelihood(LikelihoodValue.SUM, tmp_path / "read", source)
    with pytest.raises(RunError, match="no inferred instructions"):
        rescore_run(tmp_path / "read", TokenF1())


def test_a_calibrated_run_is_compared_without_its_calibration(tmp_path: Path, source: str) -> None:
    plain = FlipReward(ScriptedEngine(infer), FlipOptions())
    curve = LogisticMap(slope=2.0, intercept=0.0)
    calibration = Calibration(reward=dict(plain.settings), curve=curve, lowest=0.9, highest=1.0)
    opened = open_job(ScoringJob(CalibratedReward(plain, calibration), [source], tmp_path / "run"))
    asyncio.run(opened.run())
    opened.folder.close()
    rescored, _ = rescore_run(tmp_path / "run", TokenF1())
    for before, after in zip(*map(read_records_in_input_order, (tmp_path / "run", rescored)), strict=True):
        if before.score.value is not None:
            assert after.score.value == before.score.parts[0].value != before.score.value
            assert (after.score.parts, after.score.cautions) == ((), ())
    assert "calibration" not in (rescored / "manifest.json").read_text()


def test_both_readings_of_a_copy_are_compared_again(tmp_path: Path, source: str) -> None:
    path = Path(source)
    rows = [{"instruction": "say a word", "response": text} for text in ("say a word: it", "say a word", "it")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def script(request: Request) -> str:
        inferred = "a very long way to say the word" if "say a word" in request.messages[-1].content else "say it"
        return json.dumps({"REASONING": "", "INFERRED INSTRUCTION": inferred})

    run(ScriptedEngine(script), tmp_path / "run", source, FlipOptions(copy_guard=True))
    before = scores(tmp_path / "run")
    folder, _ = rescore_run(tmp_path / "run", Length())
    after = scores(folder)
    assert [score.value for score in before] == [0.5, 0.0, 0.5]
    assert [score.value for score in after] == [6 / 40, 0.0, 6 / 40]
    assert [score.inferred_instruction for score in after] == ["say it", None, "say it"]
    assert [score.copied_share for score in after] == [1.0, 1.0, 0.0]
    back, _ = rescore_run(folder, TokenF1(), tmp_path / "back")
    assert [score.value for score in scores(back)] == [score.value for score in before]
    assert [score.other_reading and score.other_reading.value for score in scores(back)] == [
        score.other_reading and score.other_reading.value for score in before
    ]


def test_both_likelihoods_of_a_copy_are_valued_again(tmp_path: Path, source: str) -> None:
    Path(source).write_text(json.dumps({"instruction": "say a word", "response": "say a word: it"}) + "\n")
    engine = ScriptedEngine(logprob_script=lambda request: [-1.0] if "say" in request.prefix else [-2.0, -1.0])
    reward = BackwardLikelihoodReward(engine, BackwardLikelihoodOptions("answer", copy_guard=True))
    opened = open_job(ScoringJob(reward, [source], tmp_path / "run"))
    asyncio.run(opened.run())
    opened.folder.close()
    folder, _ = rescore_run(tmp_path / "run", LikelihoodValue.SUM)
    [score] = scores(folder)
    assert score.value == -3.0
    assert score.other_reading is not None
    assert (score.other_reading.masked, score.other_reading.value) == (False, -1.0)
