"""FLIP with several inferences from each response."""

import json
from pathlib import Path

import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.score import Aggregation, Outcome, Score, Usage
from flip_reward.engines.base import Completion, Request, Sampling
from flip_reward.engines.cache import ResponseCache
from flip_reward.engines.middleware import CachingEngine
from flip_reward.engines.scripted import Script, ScriptedEngine
from flip_reward.errors import EngineServerError, OptionError
from flip_reward.rewards.flip import FlipOptions, FlipReward

INSTRUCTION = "Name three fruits"
INFERRED = {7: "Name three fruits", 8: "Name some fruits", 9: "Explain plate tectonics"}  # F1: 1, 2/3, 0
SEEDED = Sampling(0.7, seed=7)


def by_seed(request: Request) -> Completion:
    return reply(INFERRED[request.sampling.seed or 0])


def reply(inferred: str) -> Completion:
    text = json.dumps({"REASONING": f"about {inferred}", "INFERRED INSTRUCTION": inferred})
    return Completion(text, usage=Usage(100, 10, 50))


def score_one(script: Script = by_seed, aggregation: Aggregation = Aggregation.MEAN, samples: int = 3) -> Score:
    options = FlipOptions(sampling=SEEDED, samples=samples, aggregation=aggregation)
    [[score]] = FlipReward(ScriptedEngine(script), options).score_sync([Group.of(INSTRUCTION, "Apples, pears.")])
    return score


@pytest.mark.parametrize(
    ("aggregation", "value", "typical"),
    [(Aggregation.MEAN, 5 / 9, 8), (Aggregation.MAX, 1.0, 7), (Aggregation.MEDIAN, 2 / 3, 8)],
)
def test_a_score_is_made_of_all_samples(aggregation: Aggregation, value: float, typical: int) -> None:
    score = score_one(aggregation=aggregation)
    assert score.value == pytest.approx(value)
    assert score.spread == pytest.approx((14 / 81) ** 0.5)
    assert (score.inferred_instruction, score.reasoning) == (INFERRED[typical], f"about {INFERRED[typical]}")
    assert [sample.inferred_instruction for sample in score.samples] == list(INFERRED.values())
    assert [sample.value for sample in score.samples] == pytest.approx([1, 2 / 3, 0])


def test_usage_is_that_of_the_whole_request_and_counted_once() -> None:
    assert score_one().cost.usage == Usage(300, 30, 150)


def test_a_sample_that_cannot_be_read_lowers_nothing() -> None:
    def script(request: Request) -> Completion:
        if request.sampling.seed == 9:
            return Completion('{"REASONING": "cut', "length")
        return by_seed(request)

    score = score_one(script)
    assert score.value == pytest.approx(5 / 6)
    assert [sample.outcome for sample in score.samples] == [
        Outcome.SCORED, Outcome.SCORED, Outcome.TRUNCATED_REPLY,
    ]  # fmt: skip
    assert (score.samples[2].raw_reply, score.detail) == ('{"REASONING": "cut', "left out: 1 truncated_reply")


def test_samples_that_all_cannot_be_read_leave_the_response_unscored() -> None:
    score = score_one(lambda request: "" if request.sampling.seed == 7 else "prose")
    assert (score.value, score.outcome, score.raw_reply) == (None, Outcome.UNPARSEABLE_REPLY, "prose")
    assert [sample.outcome for sample in score.samples] == [
        Outcome.EMPTY_REPLY, Outcome.UNPARSEABLE_REPLY, Outcome.UNPARSEABLE_REPLY,
    ]  # fmt: skip


def test_a_request_that_fails_has_no_samples() -> None:
    def script(request: Request) -> Completion:
        if request.sampling.seed == 8:
            raise EngineServerError("overloaded")
        return by_seed(request)

    score = score_one(script)
    assert (score.outcome, score.samples, score.detail) == (Outcome.ENGINE_FAILURE, (), "overloaded")


def test_characters_that_cannot_be_stored_are_replaced_in_every_sample() -> None:
    score = score_one(lambda _request: reply("Name \ud800 fruits").text or "\ud800")
    score_raw = score_one(lambda _request: "\ud800")
    assert all((sample.inferred_instruction or "").isprintable() for sample in score.samples)
    assert all("\ud800" not in (sample.raw_reply or "") for sample in score_raw.samples)


def test_one_sample_is_as_before() -> None:
    score = score_one(samples=1)
    assert (score.value, score.spread, score.samples, score.cost.usage) == (1.0, None, (), Usage(100, 10, 50))


def test_a_seed_makes_samples_repeatable_so_they_are_cached(tmp_path: Path) -> None:
    def ask(sampling: Sampling) -> tuple[Score, int]:
        engine = ScriptedEngine(lambda request: by_seed(request) if request.sampling.seed else reply("Name fruits"))
        with ResponseCache(tmp_path / "cache.sqlite3") as cache:
            reward = FlipReward(CachingEngine(engine, cache), FlipOptions(sampling=sampling, samples=3))
            [[score]] = reward.score_sync([Group.of(INSTRUCTION, "Apples.")])
        return score, engine.requests

    (first, asked), (second, asked_again) = ask(SEEDED), ask(SEEDED)
    assert (asked, asked_again) == (3, 0)
    assert (first.value, first.spread, first.samples) == (second.value, second.spread, second.samples)
    assert (second.cost.cached, second.cost.usage) == (True, Usage())
    assert [ask(Sampling(0.7))[1] for _ in range(2)] == [3, 3], "without a seed nothing is repeatable"


def test_settings_name_several_samples_and_are_as_before_for_one() -> None:
    engine = ScriptedEngine()
    one = FlipReward(engine, FlipOptions(sampling=SEEDED, aggregation=Aggregation.MAX)).settings
    several = FlipReward(engine, FlipOptions(sampling=SEEDED, samples=4, aggregation=Aggregation.MAX)).settings
    assert "samples" not in one
    assert "aggregation" not in one
    assert several == {**one, "samples": 4, "aggregation": "max"}


def test_numbers_of_samples_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match="temperature 0") as caught:
        FlipReward(ScriptedEngine(), FlipOptions(samples=2))
    assert "--temperature" in (caught.value.hint or "")
    with pytest.raises(OptionError, match="sample"):
        FlipReward(ScriptedEngine(), FlipOptions(samples=0))
