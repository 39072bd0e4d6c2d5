from __future__ import annotations

from typing import Any

import pytest

from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import OptionError
from flip_reward.rewards.flip import FlipReward
from flip_reward.rewards.shared import load_shared


def test_equal_options_load_a_reward_once(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"model": "scripted", "samples": 2, "temperature": 0.7}
    first = load_shared("flip", options)
    assert first is load_shared("flip", dict(reversed(options.items())))
    assert first is not load_shared("flip", {**options, "samples": 3})
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert first is not load_shared("flip", options), "the environment chooses, too"


def test_a_reward_model_is_taken_as_it_is() -> None:
    reward = FlipReward(ScriptedEngine())
    assert load_shared(reward, {}) is reward


MISTAKES: dict[str, tuple[Any, dict[str, object]]] = {
    "'samples'": ("flip", {"sample": 2}),
    "samples: ": ("flip", {"samples": "many"}),
    "'pointwise' has no option 'samples'": ("pointwise", {"model": "scripted", "samples": 2}),
    "'flip'": ("flipp", {"model": "scripted"}),
    "not function": (lambda prompt, response: len(prompt + response), {}),
    "not FlipReward": (FlipReward, {}),
    "samples has no effect": (FlipReward(ScriptedEngine()), {"samples": 2}),
}


@pytest.mark.parametrize("said", sorted(MISTAKES))
def test_mistakes_are_said_in_one_line(said: str) -> None:
    reward, options = MISTAKES[said]
    with pytest.raises(OptionError, match=said) as caught:
        load_shared(reward, options)
    assert "\n" not in str(caught.value)
