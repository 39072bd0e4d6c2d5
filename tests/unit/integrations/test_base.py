from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flip_reward.core.score import Outcome
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import OptionError
from flip_reward.integrations.base import TrainerReward, environment_reward
from flip_reward.integrations.plain import flip
from flip_reward.rewards.calibration import Calibration, LogisticMap
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.unscored import NONE, RAISE, UnscoredPolicy
from tests.unit.integrations.conftest import SetEnvironment

PROMPTS, RESPONSES = ["Say hi.", "Name a fruit.", "Say hi."], ["Hi there.", "A green apple.", ""]


def test_the_environment_says_what_scores(set_environment: SetEnvironment) -> None:
    set_environment(template="compact", on_unscored="none")
    reward = environment_reward()
    assert reward is environment_reward()
    assert reward.reward.settings["template"] == "compact"
    assert reward.on_unscored == NONE
    assert [score.outcome for score in reward.score_samples(PROMPTS, RESPONSES)] == [
        Outcome.SCORED,
        Outcome.SCORED,
        Outcome.EMPTY_RESPONSE,
    ]


async def test_every_way_of_calling_gives_the_same(set_environment: SetEnvironment) -> None:
    set_environment()
    reward = environment_reward()
    blocking = [score.value for score in reward.score_samples(PROMPTS, RESPONSES)]
    awaited = [score.value for score in await reward.score_samples_async(PROMPTS, RESPONSES)]
    in_new_loops = [
        [
            score.value
            for score in await asyncio.to_thread(asyncio.run, reward.score_samples_async(PROMPTS, RESPONSES))
        ]
        for _ in range(2)
    ]
    assert [blocking, awaited] == in_new_loops
    assert any(blocking)


def test_requests_of_all_callers_share_one_limit() -> None:
    flying: list[int] = [0, 0]
    lock = threading.Lock()

    class Counting(ScriptedEngine):
        async def complete(self, request: Request) -> Completion:
            with lock:
                flying[0] += 1
                flying[1] = max(flying)
            await asyncio.sleep(0.002)
            with lock:
                flying[0] -= 1
            return await super().complete(request)

    from flip_reward.engines.middleware import build_stack

    reward = TrainerReward(RewardConfig().load(build_stack(Counting(), concurrency=3)))
    threads = [
        threading.Thread(target=reward.score_samples, args=([f"Say {number}."] * 4, list("abcd")))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reward.close()
    assert flying == [0, 3]


def test_a_choice_in_the_trainers_configuration_comes_first(set_environment: SetEnvironment) -> None:
    set_environment(on_unscored="0.5")
    reward = environment_reward()
    assert reward.number_policy("any") == UnscoredPolicy.parse(0.5)
    assert reward.number_policy("any", "-1") == UnscoredPolicy.parse(-1)
    set_environment(on_unscored="")
    assert environment_reward().number_policy("any") == RAISE


@pytest.mark.parametrize(("variable", "message"), [("modle", "did you mean"), ("on_unscored", "ON_UNSCORED")])
def test_mistakes_are_told_at_the_first_call(set_environment: SetEnvironment, variable: str, message: str) -> None:
    set_environment(**{variable: "x"})
    with pytest.raises(OptionError, match=message):
        environment_reward()


def test_a_reward_that_compares_responses_needs_groups(set_environment: SetEnvironment) -> None:
    set_environment(reward="listwise")
    with pytest.raises(OptionError, match="'listwise'"):
        environment_reward().check_independent("some trainer")


def _score_in_a_fork(answers: multiprocessing.SimpleQueue[object]) -> None:
    scores = environment_reward().score_samples(PROMPTS, RESPONSES)
    answers.put((os.getpid(), [score.value for score in scores]))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_that_was_forked_after_the_first_call_can_score(set_environment: SetEnvironment) -> None:
    set_environment()
    here = [score.value for score in environment_reward().score_samples(PROMPTS, RESPONSES)]
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[object] = context.SimpleQueue()
    child = context.Process(target=_score_in_a_fork, args=(answers,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == (child.pid, here)
    answers.close()


def test_a_program_that_never_closes_anything_ends_quietly() -> None:
    program = (
        "from flip_reward.integrations.base import environment_reward\n"
        "print(environment_reward().score_samples(['Say hi.'], ['Hi there.'])[0].outcome)"
    )
    finished = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", program],
        env={**os.environ, "FLIP_REWARD_MODEL": "scripted"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (finished.stdout, finished.stderr) == ("scored\n", "")


def test_a_calibration_in_the_environment(set_environment: SetEnvironment, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    curve = LogisticMap(slope=0.1, intercept=-1.0)
    made = Calibration(reward={"reward": "longest"}, curve=curve, lowest=0, highest=20)
    path.write_text(made.model_dump_json())
    set_environment(reward="longest", model="", calibration=str(path))
    assert flip(["Count.", "Count."], ["ten signs!", "x" * 30]) == [0.5, curve.apply(30.0)]
