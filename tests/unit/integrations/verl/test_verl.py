from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from flip_reward.errors import DataError, OptionError
from flip_reward.integrations.verl import RateLimitedManagerError, VerlScore, compute_score, compute_score_sync
from tests.unit.integrations.conftest import SetEnvironment


async def score(response: str, prompt: object, **further: object) -> VerlScore:
    return await compute_score("chat", response, "", {"prompt": prompt}, **further)  # type: ignore[arg-type]


async def test_every_sample_has_the_same_keys_with_values_of_the_same_types(set_environment: SetEnvironment) -> None:
    set_environment()
    scored = await score("It rains in Spain.", "Say that it rains.", reward_router_address="unused")
    unscored = await score("", "Say that it rains.", on_unscored=-1.5)
    assert list(scored) == list(unscored)
    assert [type(value) for value in scored.values()] == [type(value) for value in unscored.values()]
    assert scored["score"] > 0
    assert scored["flip_inferred_instruction"]
    assert unscored == VerlScore(
        score=-1.5, flip_scored=0.0, flip_outcome="empty_response", flip_inferred_instruction=""
    )


async def test_the_configuration_of_the_trainer_comes_before_the_environment(set_environment: SetEnvironment) -> None:
    set_environment(on_unscored="-3")
    assert (await score("", "Say hi."))["score"] == -3
    assert (await score("", "Say hi.", on_unscored="2"))["score"] == 2


@pytest.mark.parametrize("extra_info", [None, {}, {"prompt": None}, {"prompt": 3}])
def test_without_a_prompt_the_data_has_to_be_converted(
    extra_info: dict[str, object] | None, set_environment: SetEnvironment
) -> None:
    set_environment()
    with pytest.raises(DataError, match="extra_info") as caught:
        compute_score_sync("chat", "It rains.", "", extra_info)
    assert "flip-reward data verl" in str(caught.value.hint)


async def test_a_policy_that_makes_no_sense_is_told_before_anything_is_asked(set_environment: SetEnvironment) -> None:
    set_environment()
    with pytest.raises(OptionError, match="'zero'"):
        await score("It rains.", "Say that it rains.", on_unscored="zero")


class RateLimitedRewardManager:
    """Calls a reward function and takes its errors as verl's manager of this name does."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def run_single(self, response: str) -> object:
        try:
            return await asyncio.wait_for(self._compute_reward(response), timeout=60)
        except Exception:  # noqa: BLE001 - the fault
            return 0.0

    async def _compute_reward(self, response: str) -> object:
        sample = {"data_source": "chat", "ground_truth": "", "extra_info": {"prompt": "Say that it rains."}}
        if inspect.iscoroutinefunction(self._function):
            return await self._function(solution_str=response, **sample)
        return await asyncio.get_running_loop().run_in_executor(
            None, lambda: self._function(solution_str=response, **sample)
        )


@pytest.mark.parametrize("function", [compute_score, compute_score_sync])
@pytest.mark.parametrize("response", ["It rains.", ""])
async def test_the_manager_that_turns_errors_into_zeros_is_refused_where_it_calls(
    function: Callable[..., object], response: str, set_environment: SetEnvironment
) -> None:
    set_environment()
    with pytest.raises(RateLimitedManagerError, match="rate_limited"):
        await RateLimitedRewardManager(function).run_single(response)


def get_custom_reward_fn(config: SimpleNamespace) -> object:
    """Load the reward's file as verl does, where its configuration is at hand."""
    assert config.reward
    return importlib.import_module("flip_reward.integrations.verl")


def test_the_manager_that_turns_errors_into_zeros_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "flip_reward.integrations.verl")
    with pytest.raises(OptionError, match=r"rate_limited.*reward_manager\.name=naive"):
        get_custom_reward_fn(
            SimpleNamespace(reward=SimpleNamespace(reward_manager=SimpleNamespace(name="rate_limited")))
        )
    for other in (SimpleNamespace(name="naive"), None):
        monkeypatch.delitem(sys.modules, "flip_reward.integrations.verl", raising=False)
        assert get_custom_reward_fn(SimpleNamespace(reward=SimpleNamespace(reward_manager=other)))
