from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.cautions import Caution, ReliabilityLimits
from flip_reward.core.conversation import Group, Message
from flip_reward.core.response import Target
from flip_reward.core.score import Likelihood, Outcome
from flip_reward.engines.base import LogprobRequest
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import ContextTooLongError, EngineServerError, NoLogprobsError
from flip_reward.rewards.backward_likelihood import (
    PRIOR_TOKENS_KEPT,
    BackwardLikelihoodOptions,
    BackwardLikelihoodReward,
    LikelihoodValue,
    weigh_by_surprisal,
)
from tests.http.fault_server import FaultServer

FRUITS = Group.of("Name three fruits.", ["Apples, pears, plums.", "Name three fruits.", "  "])


def reward_of(value: LikelihoodValue, engine: ScriptedEngine) -> BackwardLikelihoodReward:
    return BackwardLikelihoodReward(engine, BackwardLikelihoodOptions(likelihood_value=value))


def by_length(request: LogprobRequest) -> Sequence[float]:
    """Two tokens; the longer the prefix, the likelier the first."""
    return [-100.0 / len(request.prefix), -1.0]


def test_the_values() -> None:
    likelihood = Likelihood(-6.0, 4, -10.0)
    assert LikelihoodValue.SUM.of(likelihood) == -6.0
    assert LikelihoodValue.MEAN.of(likelihood) == -1.5
    assert LikelihoodValue.PMI.of(likelihood) == 4.0
    assert LikelihoodValue.SURPRISAL.of(replace(likelihood, surprisal_weighted=1.25)) == 1.25


@pytest.mark.parametrize("value", [LikelihoodValue.PMI, LikelihoodValue.SURPRISAL])
def test_a_value_that_needs_the_prior_cannot_do_without(value: LikelihoodValue) -> None:
    assert value.needs_prior
    with pytest.raises(ValueError, match="without the response"):
        value.of(Likelihood(-6.0, 4))


@pytest.mark.parametrize(
    ("values", "prior", "expected"),
    [
        ([-1.0, -1.0], [-3.0, -1.0], 1.5),  # (3 * 2 + 1 * 0) / 4
        ([-1.0], [-4.0], 3.0),  # one token: its gain
        ([-5.0, -0.5], [-4.0, 0.0], -1.0),  # what was certain has no weight
        ([-2.0, -3.0], [0.0, 0.0], 0.0),  # nothing was there to learn
        ([-1.0, -2.0], [-0.5, -1.5, -4.0], 1.6666666666666667),  # 0.5 + 1.5 as one token: (2 * 1 + 4 * 2) / 6
        ([-0.5, -0.5, -2.0], [-2.0, -4.0], 1.6666666666666667),
        ([-6.0], [-1.0, -2.0], -3.0),
    ],
)
def test_tokens_weigh_what_was_hard_to_foresee(values: list[float], prior: list[float], expected: float) -> None:
    assert weigh_by_surprisal(values, prior) == pytest.approx(expected, abs=1e-15)


LOGPROBS = st.lists(st.floats(-50, 0), min_size=1, max_size=40)


@given(LOGPROBS, LOGPROBS)
def test_the_weighted_gain_lies_between_no_prior_and_no_loss(values: list[float], prior: list[float]) -> None:
    gain = weigh_by_surprisal(values, prior)
    assert -50 * 40 <= gain <= 50 * 40
    assert weigh_by_surprisal(prior, prior) == 0
    certain = weigh_by_surprisal([0.0] * len(prior), prior)
    assert weigh_by_surprisal([value / 2 for value in prior], prior) == pytest.approx(certain / 2)


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=40), st.floats(-20, -0.01))
def test_with_equal_weights_it_is_the_mean_of_the_gains(values: list[float], known: float) -> None:
    gain = math.fsum(value - known for value in values) / len(values)
    assert weigh_by_surprisal(values, [known] * len(values)) == pytest.approx(gain, abs=1e-9)


def test_an_instruction_that_the_response_makes_likely_earns_more() -> None:
    [[fruits, copied, blank]] = reward_of(LikelihoodValue.MEAN, ScriptedEngine()).score_sync([FRUITS])
    assert (fruits.value, copied.value) == (-4.0, -1.0)
    assert copied.likelihood == Likelihood(-3.0, 3)
    assert copied.cost.usage.prompt_tokens == 3
    assert (blank.value, blank.outcome, blank.cost.attempts) == (None, Outcome.EMPTY_RESPONSE, 0)


def test_the_instruction_is_scored_without_white_space_around_it_and_only_in_its_place() -> None:
    asked: list[LogprobRequest] = []

    def script(request: LogprobRequest) -> list[float]:
        asked.append(request)
        return [-1.0]

    engine = ScriptedEngine(logprob_script=script)
    reward_of(LikelihoodValue.MEAN, engine).score_sync([Group.of("  Name a fruit.\n", "{instruction} {response}")])
    [request] = asked
    assert request.continuation == "Name a fruit."
    assert isinstance(request.prefix, str)
    assert "{instruction} {response}" in request.prefix
    assert "Name a fruit." not in request.prefix


def test_sum_mean_and_pmi_order_a_group_alike() -> None:
    group = Group.of("Name three fruits.", ["short", "somewhat longer", "the longest response of them all"])
    scores = {
        value: reward_of(value, ScriptedEngine(logprob_script=by_length)).score_sync([group])[0]
        for value in (LikelihoodValue.SUM, LikelihoodValue.MEAN, LikelihoodValue.PMI)
    }
    for value, own in scores.items():
        assert [score.value for score in own] == sorted(score.value for score in own if score.value is not None)
        assert all(score.likelihood and value.of(score.likelihood) == score.value for score in own)
    assert all(score.value > 0 for score in scores[LikelihoodValue.PMI] if score.value is not None)


def test_a_response_that_explains_the_rare_token_earns_more_surprisal() -> None:
    def script(request: LogprobRequest) -> list[float]:
        gains = {"haiku": [-1.0, -2.0], "about": [0.0, -6.0]}
        return next((gains[word] for word in gains if word in request.prefix), [-1.0, -6.0])

    group = Group.of("Write haiku", ["A haiku.", "All about it."])
    [scores] = reward_of(LikelihoodValue.SURPRISAL, ScriptedEngine(logprob_script=script)).score_sync([group])
    assert [score.value for score in scores] == [24 / 7, 1 / 7]
    assert scores[0].likelihood == Likelihood(-3.0, 2, -7.0, 24 / 7)


@pytest.mark.parametrize("value", [LikelihoodValue.PMI, LikelihoodValue.SURPRISAL])
def test_the_likelihood_without_a_response_is_asked_once_for_each_instruction(value: LikelihoodValue) -> None:
    engine = ScriptedEngine(logprob_script=by_length)
    reward = reward_of(value, engine)
    groups = [Group.of(f"Name fruit {number % 2}.", [f"{number}a", f"{number}b"]) for number in range(6)]
    for group in groups:
        reward.score_sync([group])
    assert engine.requests == 12 + 2


def test_long_instructions_are_not_all_remembered() -> None:
    engine = ScriptedEngine(logprob_script=lambda _: [-1.0] * (PRIOR_TOKENS_KEPT // 2))
    reward = reward_of(LikelihoodValue.PMI, engine)
    for number in (1, 2, 3, 3, 2, 1):  # two fit
        reward.score_sync([Group.of(f"Name fruit {number}.", "Pears.")])
    assert engine.requests == 6 + 4


def test_the_tokens_of_the_prior_are_counted_once() -> None:
    reward = reward_of(LikelihoodValue.PMI, ScriptedEngine(logprob_script=by_length))
    group = Group.of("Name fruits.", ["", "Apples.", "Pears."])
    [first] = reward.score_sync([group])
    [again] = reward.score_sync([group])
    assert [score.cost.usage.prompt_tokens for score in first] == [0, 4, 2]
    assert [score.cost.attempts for score in first] == [0, 2, 1]
    assert [score.cost.usage.prompt_tokens for score in again] == [0, 2, 2]


def test_failures_are_outcomes() -> None:
    def fail(request: LogprobRequest) -> list[float]:
        raise ContextTooLongError("9000 tokens") if "Apples" in request.prefix else EngineServerError("broken")

    reward = reward_of(LikelihoodValue.MEAN, ScriptedEngine(logprob_script=fail))
    [[too_long, broken, blank]] = reward.score_sync([FRUITS])
    assert (too_long.value, too_long.outcome) == (None, Outcome.CONTEXT_TOO_LONG)
    assert (broken.value, broken.outcome, broken.detail) == (None, Outcome.ENGINE_FAILURE, "broken")
    assert blank.outcome is Outcome.EMPTY_RESPONSE


def test_without_a_prior_there_is_no_pmi() -> None:
    def fail(request: LogprobRequest) -> list[float]:
        if "Apples" not in request.prefix:
            raise EngineServerError("broken")
        return [-1.0]

    group = Group.of("Name fruits.", ["Apples.", " ", "Apples and pears."])
    [scores] = reward_of(LikelihoodValue.PMI, ScriptedEngine(logprob_script=fail)).score_sync([group])
    failed = Outcome.ENGINE_FAILURE
    assert [score.outcome for score in scores] == [failed, Outcome.EMPTY_RESPONSE, failed]


def test_an_empty_instruction_is_not_scored() -> None:
    [[score]] = BackwardLikelihoodReward(ScriptedEngine()).score_sync([Group.of(" \n", "Apples.")])
    assert (score.value, score.outcome) == (None, Outcome.EMPTY_INSTRUCTION)


def test_the_target_and_a_chat_frame() -> None:
    asked: list[LogprobRequest] = []

    def script(request: LogprobRequest) -> list[float]:
        asked.append(request)
        return [-1.0]

    options = BackwardLikelihoodOptions("compact", target=Target.SYSTEM)
    group = Group((Message("system", "Speak like a pirate."), Message("user", "Hello")), ("Arr!",), "1")
    BackwardLikelihoodReward(ScriptedEngine(logprob_script=script), options).score_sync([group])
    assert asked[0].continuation == "Speak like a pirate."
    assert isinstance(asked[0].prefix, tuple)


def test_an_engine_that_cannot_ends_the_run() -> None:
    async def score(engine: HttpEngine) -> None:
        try:
            await BackwardLikelihoodReward(engine).score([FRUITS])
        finally:
            await engine.aclose()

    with FaultServer() as server:
        with pytest.raises(NoLogprobsError, match="log-probabilities") as caught:
            asyncio.run(score(HttpEngine(server.base_url, server.model)))
        assert caught.value.hint is not None
        assert "transformers:" in caught.value.hint


def test_the_settings_tell_runs_apart() -> None:
    engine = ScriptedEngine()
    settings = [
        BackwardLikelihoodReward(engine, options).settings
        for options in (
            BackwardLikelihoodOptions(),
            BackwardLikelihoodOptions(likelihood_value=LikelihoodValue.SUM),
            BackwardLikelihoodOptions("compact"),
            BackwardLikelihoodOptions(target=Target.CONVERSATION),
        )
    ]
    assert len({tuple(one.items()) for one in settings}) == 4


def test_values_are_finite_sums() -> None:
    engine = ScriptedEngine(logprob_script=lambda request: [-0.1] * (10 + len(request.continuation)))
    [[score]] = reward_of(LikelihoodValue.SUM, engine).score_sync([Group.of("Hi", "Hello")])
    assert score.value == math.fsum([-0.1] * 12)


def test_cautions_stand_beside_the_value() -> None:
    engine = ScriptedEngine(logprob_script=lambda _: [-1.0])
    group = Group.of("Name fruits.", ["Pears.", "", "Pears and plums."])
    for limits, expected in ((ReliabilityLimits(2, 0.8, 0.1), [(Caution.SHORT_RESPONSE,), (), ()]), (None, [()] * 3)):
        options = BackwardLikelihoodOptions(likelihood_value=LikelihoodValue.MEAN)
        [scores] = BackwardLikelihoodReward(engine, options, limits=limits).score_sync([group])
        assert [score.cautions for score in scores] == expected
        assert scores[0].value == -1.0
