from __future__ import annotations

import pytest

from flip_reward.errors import DataError, OptionError
from flip_reward.integrations.verl import VerlScore, compute_score, compute_score_sync
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
