"""The copy guard in the rewards that have it, and what every reward notes of copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from flip_reward.core.cautions import Caution, ReliabilityLimits
from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome, Score
from flip_reward.engines.base import Completion, LogprobRequest, Request, Sampling
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineServerError, OptionError
from flip_reward.rewards.backward_likelihood import (
    BackwardLikelihoodOptions,
    BackwardLikelihoodReward,
    LikelihoodValue,
)
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.flip import FlipOptions, FlipReward

ASKED = "Name three fruits that grow in cold countries."
ANSWER = "Apples, pears, plums."
ECHO = f"{ASKED} {ANSWER}"
ON = FlipOptions(copy_guard=True)
SERVED = {"model": "m", "base_url": "http://localhost:1"}


def infer(request: Request) -> str:
    """Infer the instruction itself from what holds it, and only a part of it from what does not."""
    return verdict(ASKED if ASKED in request.messages[-1].content else "Name three fruits")


def verdict(instruction: str) -> str:
    return json.dumps({"REASONING": "", "INFERRED INSTRUCTION": instruction})


def likelihood(request: LogprobRequest) -> list[float]:
    if ASKED in request.prefix:
        return [-0.5, -0.5]
    return [-2.0, -2.0] if "Apples" in request.prefix else [-4.0, -4.0]


def flip(script: Callable[[Request], str | Completion] = infer, options: FlipOptions = ON) -> FlipReward:
    return FlipReward(ScriptedEngine(script), options)


def score(reward: RewardModel, response: str) -> Score:
    [[found]] = reward.score_sync([Group.of(ASKED, response)])
    return found


def test_the_lower_of_both_readings_counts_and_the_other_is_kept() -> None:
    found = score(flip(), ECHO)
    assert found.value == pytest.approx(6 / 11)
    assert found.inferred_instruction == "Name three fruits"
    assert found.copied_share == 1
    assert found.other_reading is not None
    assert (found.other_reading.masked, found.other_reading.value) == (False, 1.0)
    assert [sample.inferred_instruction for sample in found.other_reading.samples] == [ASKED]
    assert found.cost.attempts == 2
    assert score(flip(options=FlipOptions()), ECHO).value == 1


def test_the_reading_as_it_is_counts_where_it_is_lower() -> None:
    found = score(flip(lambda request: verdict("Eat" if ASKED in request.messages[-1].content else ASKED)), ECHO)
    assert (found.value, found.inferred_instruction) == (0.0, "Eat")
    assert found.other_reading is not None
    assert (found.other_reading.masked, found.other_reading.value) == (True, 1.0)


def test_nothing_is_asked_twice_where_nothing_is_copied() -> None:
    reward = flip()
    found = score(reward, ANSWER)
    assert (found.copied_share, found.other_reading, found.cost.attempts, found.cautions) == (0.0, None, 1, ())
    assert found == replace(score(flip(options=FlipOptions()), ANSWER), cost=found.cost)


def test_an_echo_alone_answers_nothing() -> None:
    found = score(flip(), f"> {ASKED}")
    assert (found.value, found.outcome, found.inferred_instruction, found.cost.attempts) == (
        0.0, Outcome.SCORED, None, 1,
    )  # fmt: skip
    assert found.detail
    reward = BackwardLikelihoodReward(
        ScriptedEngine(logprob_script=likelihood),
        BackwardLikelihoodOptions(copy_guard=True, likelihood_value=LikelihoodValue.PMI),
    )
    assert score(reward, ASKED).value == 0, "as without a response"


def test_it_acts_from_a_share() -> None:
    part = "Three fruits that grow are apples, pears and plums."
    assert score(flip(), part).copied_share == pytest.approx(1 / 5)
    assert score(flip(), part).other_reading is None
    assert score(flip(options=replace(ON, copy_guard_share=0.2)), part).other_reading is not None


def test_likelihoods() -> None:
    reward = BackwardLikelihoodReward(
        ScriptedEngine(logprob_script=likelihood), BackwardLikelihoodOptions(copy_guard=True)
    )
    found = score(reward, ECHO)
    assert found.value == -2
    assert found.other_reading is not None
    assert found.other_reading.likelihood is not None
    assert found.other_reading.likelihood.log_probability == -1
    assert score(reward, ASKED).value == -4


@pytest.mark.parametrize("lost", ["as it is", "without copies"])
def test_a_failure_of_either_reading_is_no_reward(lost: str) -> None:
    def script(request: Request) -> str:
        if (ASKED in request.messages[-1].content) == (lost == "as it is"):
            raise EngineServerError("broken")
        return infer(request)

    found = score(flip(script), ECHO)
    assert (found.value, found.outcome, found.detail) == (None, Outcome.ENGINE_FAILURE, "broken")
    assert found.other_reading is not None
    assert found.other_reading.value is not None


def test_every_sample_of_both_readings_is_kept() -> None:
    options = replace(ON, sampling=Sampling(temperature=0.7, seed=1), samples=3)
    found = score(flip(options=options), ECHO)
    assert found.other_reading is not None
    assert (len(found.samples), len(found.other_reading.samples), found.cost.attempts) == (3, 3, 2)


def test_cautions_are_of_the_response_as_it_is() -> None:
    limits = ReliabilityLimits(least_words=6, most_code=1.0, least_english=0.0)
    reward = FlipReward(ScriptedEngine(infer), ON, limits=limits)
    assert score(reward, ECHO).cautions == (Caution.COPIES_INSTRUCTION,)
    assert score(reward, ANSWER).cautions == (Caution.SHORT_RESPONSE,)


@pytest.mark.parametrize("name", ["copy", "flip/2", "longest", "min(flip, length(max=9))"])
def test_every_reward_notes_what_is_copied(name: str) -> None:
    served = SERVED if "flip" in name else {}
    reward = RewardConfig(reward=name, **served).load(ScriptedEngine(infer))
    [scores] = reward.score_sync([Group.of(ASKED, [ECHO, ANSWER, "", "<think>" + ASKED])])
    assert [one.copied_share for one in scores] == [1.0, 0.0, None, None]
    assert [one.cautions for one in scores] == [(Caution.COPIES_INSTRUCTION,), (), (), ()]


def test_what_a_part_of_a_formula_guards_counts_in_the_formula() -> None:
    reward = RewardConfig(reward="flip/2", copy_guard=True, **SERVED).load(ScriptedEngine(infer))
    found = score(reward, ECHO)
    assert found.value == pytest.approx(3 / 11)
    assert found.other_reading is not None
    assert (found.other_reading.masked, found.other_reading.value) == (False, 1.0)


@pytest.mark.parametrize("name", ["backward-likelihood", "flip"])
def test_it_is_recorded_only_where_it_is_on(name: str) -> None:
    off, on = (RewardConfig(reward=name, copy_guard=guard).load(ScriptedEngine()) for guard in (False, True))
    assert {key: on.settings[key] for key in on.settings.keys() - off.settings.keys()} == {
        "copy_guard": True, "copy_guard_share": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["backward-likelihood", "flip"])
def test_a_share_without_the_guard_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="copy_guard_share"):
        RewardConfig(reward=name, copy_guard_share=0.3).check()
    with pytest.raises(OptionError, match="copy guard"):
        RewardConfig(reward="copy", copy_guard=True).check()
