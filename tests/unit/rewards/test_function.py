"""A function of the user's as a reward."""

from __future__ import annotations

import asyncio
import math
import sys
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome, Score
from flip_reward.engines.config import EngineConfig
from flip_reward.errors import OptionError
from flip_reward.evaluation.grid import load_rewards
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.function import FunctionReward
from flip_reward.rewards.options import ResponseOptions


class NamelessError(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def first_letter(prompt: str, response: str) -> float | None:
    """Whether the response begins as the prompt does; the odd ones are for what goes wrong."""
    match response:
        case "none":
            return None
        case "nan":
            return math.nan
        case "raise":
            raise KeyError(prompt)
        case "text":
            return "5"  # type: ignore[return-value]  # what a careless user returns
        case "exit":
            sys.exit("enough")
        case "odd":
            raise NamelessError
    return float(prompt[0] == response[0])


async def slow(prompt: str, response: str) -> float:
    await asyncio.sleep(0)
    return len(prompt) + len(response) / 10


def score(reward: FunctionReward, *responses: str) -> tuple[Score, ...]:
    return reward.score_sync(Group.of("Name a fruit.", responses))


def test_it_is_given_the_instruction_and_the_visible_answer() -> None:
    assert [one.value for one in score(FunctionReward(first_letter), "<think>Hm</think>Nuts", "Pear")] == [1.0, 0.0]
    [thinking] = score(FunctionReward(first_letter), "<think>Hm")
    assert thinking.outcome is Outcome.UNFINISHED_THINKING
    marks = ResponseOptions(thinking_marks=("<plan>", "</plan>"))
    assert score(FunctionReward(first_letter, marks), "<plan>x</plan>N")[0].value == 1.0


def test_a_coroutine_function_is_awaited() -> None:
    assert [one.value for one in score(FunctionReward(slow), "a", "bcd")] == [13.1, 13.3]


def test_a_coroutine_that_never_answers_is_given_up() -> None:
    async def wait(_prompt: str, _response: str) -> float:
        await asyncio.sleep(3600)
        return 1.0

    [found] = score(FunctionReward(wait, timeout_seconds=0.05), "a")
    assert (found.outcome, found.detail) == (
        Outcome.ENGINE_FAILURE,
        f"{wait.__module__}:{wait.__qualname__} raised TimeoutError",
    )


@pytest.mark.parametrize(
    ("response", "outcome", "detail"),
    [
        ("none", Outcome.UNDEFINED_VALUE, "returned None"),
        ("nan", Outcome.UNDEFINED_VALUE, "returned nan"),
        ("raise", Outcome.ENGINE_FAILURE, "raised KeyError: 'Name a fruit.'"),
        ("text", Outcome.UNDEFINED_VALUE, "returned '5'"),
        ("exit", Outcome.ENGINE_FAILURE, "raised SystemExit: enough"),
        ("odd", Outcome.ENGINE_FAILURE, "raised NamelessError"),
    ],
)
def test_what_is_no_number_is_no_reward(response: str, outcome: Outcome, detail: str) -> None:
    [found, other] = score(FunctionReward(first_letter), response, "Nuts")
    assert (found.value, found.outcome) == (None, outcome)
    assert detail in (found.detail or "")
    assert other.value == 1.0


def test_another_function_of_the_same_name_is_another_reward() -> None:
    def make(text: str) -> FunctionReward:
        def of_text(prompt: str, response: str) -> float:
            return float(prompt + response == text)

        return FunctionReward(of_text)

    def of_text(prompt: str, response: str) -> float:
        return float(len(prompt + response))

    one, other = make("a").settings, FunctionReward(of_text, name=str(make("a").settings["reward"])).settings
    assert one["reward"] == other["reward"]
    assert one["sha256"] != other["sha256"]
    assert "sha256" not in FunctionReward.load("math:dist").settings, "its source cannot be read"


def test_by_its_dotted_name_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards_here.py").write_text(
        "class Of:\n    length = staticmethod(lambda prompt, response: len(response))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    config = RewardConfig(reward="my_rewards_here:Of.length")
    assert (config.asks_model, config.describe_model()) == (False, "none")
    [[found]] = config.load().score_sync([Group.of("Say hi.", "Hi!")])
    assert found.value == 3.0
    rewards = load_rewards(["flip", "my_rewards_here:Of.length"], [EngineConfig("scripted")])
    assert [one.label for one in rewards] == ["my_rewards_here:Of.length", "flip reasoned @ scripted"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module_here:score", "cannot import 'no_such_module_here': ModuleNotFoundError"),
        ("math:no_such", "'math' has no 'no_such'"),
        ("math:pi", "'math:pi' is no function, but float"),
        ("pathlib:Path", "'pathlib:Path' is no function, but a class"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        RewardConfig(reward=name).check()


def of_prompt(prompt: str) -> float:
    return float(len(prompt))


def of_three(prompt: str, response: str, answer: str) -> float:
    return float(len(prompt + response + answer))


def by_keyword(prompt: str, *, response: str) -> float:
    return float(len(prompt + response))


@wraps(of_prompt)
def of_the_rest(_prompt: str, response: str) -> float:
    return of_prompt(response)


@pytest.mark.parametrize("function", [of_prompt, of_three, by_keyword])
def test_what_cannot_be_called_with_prompt_and_response_is_no_reward(function: Any) -> None:
    for load in (lambda: FunctionReward(function), RewardConfig(reward=f"{__name__}:{function.__name__}").check):
        with pytest.raises(
            OptionError, match=rf"{function.__name__}' cannot be called with \(prompt, resp"
        ) as caught:
            load()
        assert caught.value.hint == "write it as def score(prompt: str, response: str) -> float | None"


@pytest.mark.parametrize(("given", "said"), [(5, "5 is no function, but int"), (Path, "is no function, but a class")])
def test_what_is_no_function_is_no_reward(given: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        FunctionReward(given)


@pytest.mark.parametrize("function", [partial(of_three, "a"), of_the_rest, max])
def test_only_what_is_called_counts_and_what_cannot_be_known_passes(function: Any) -> None:
    assert FunctionReward(function, name="it").settings["reward"] == "it"


def test_a_script_that_ends_the_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script_that_ends.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match="SystemExit"):
        FunctionReward.load("script_that_ends:score")


def test_a_name_without_a_function() -> None:
    with pytest.raises(OptionError, match="names no function"):
        FunctionReward.load("math")
    with pytest.raises(OptionError, match="cannot hold a function of yours"):
        RewardConfig(reward="math:sqrt + flip").check()
