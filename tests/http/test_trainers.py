"""A trainer's file in front of a real server: loops, threads, failures, and what is written at the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flip_reward.errors import EngineUnavailableError
from flip_reward.integrations.base import environment_reward, forget_environment_reward
from flip_reward.integrations.plain import flip
from flip_reward.integrations.verl import compute_score
from tests.http.fault_server import Fault, FaultServer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    forget_environment_reward()
    monkeypatch.setenv("FLIP_REWARD_CACHE", "off")
    yield monkeypatch
    forget_environment_reward()


def point_at(server: FaultServer, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLIP_REWARD_MODEL", server.model)
    environment.setenv("FLIP_REWARD_BASE_URL", server.base_url)


async def score(response: str) -> float:
    result = await compute_score("chat", response, "", {"prompt": "Say that it rains."}, on_unscored=-1)
    return result["score"]


def test_a_new_event_loop_at_every_step_keeps_the_connection(environment: pytest.MonkeyPatch) -> None:
    with FaultServer() as server:
        point_at(server, environment)
        rewards = [asyncio.run(score(f"It rains {number} times.")) for number in range(5)]
        assert all(reward > 0 for reward in rewards)
        assert len({request.client_port for request in server.received}) == 1
        forget_environment_reward()


def test_threads_and_loops_at_once_stay_under_one_limit(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLIP_REWARD_CONCURRENCY", "4")
    with FaultServer(latency_seconds=0.05) as server:
        point_at(server, environment)
        with ThreadPoolExecutor(8) as threads:
            plain = [
                threads.submit(flip, ["Say that it rains."] * 4, [f"Rain {n} {m}." for m in range(4)])
                for n in range(6)
            ]
            loops = [threads.submit(asyncio.run, score(f"It rains {n}.")) for n in range(8)]
            assert all(reward is not None for future in plain for reward in future.result())
            assert all(future.result() is not None for future in loops)
        assert 1 < server.most_in_flight <= 4
        forget_environment_reward()


def test_a_failure_of_the_model_is_no_low_reward(environment: pytest.MonkeyPatch) -> None:
    def refuse_storms(prompt: str, _number: int) -> Fault | None:
        return Fault.REFUSED if "storm" in prompt else None

    with FaultServer(refuse_storms) as server:
        point_at(server, environment)
        assert asyncio.run(score("It rains.")) > 0
        assert asyncio.run(score("A storm.")) == -1
        with pytest.raises(Exception, match="request_refused 1"):
            flip(["Say that it rains."] * 2, ["It rains.", "A storm."])
        forget_environment_reward()


def test_a_server_that_was_never_there_ends_the_run_whatever_unscored_samples_are_worth(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("FLIP_REWARD_MODEL", "anything")
    environment.setenv("FLIP_REWARD_BASE_URL", "http://127.0.0.1:9/v1")
    environment.setenv("FLIP_REWARD_ON_UNSCORED", "0.5")
    with pytest.raises(EngineUnavailableError):
        flip(["Say that it rains."], ["It rains."])
    assert environment_reward().on_unscored is not None


def test_the_cache_is_written_when_the_trainer_ends(tmp_path: Path) -> None:
    program = (
        "import asyncio; from flip_reward.integrations.verl import compute_score\n"
        "result = asyncio.run(compute_score('', 'It rains.', '', {'prompt': 'Say that it rains.'}))\n"
        "print(result['score'])"
    )
    with FaultServer() as server:
        settings = {
            "FLIP_REWARD_MODEL": server.model,
            "FLIP_REWARD_BASE_URL": server.base_url,
            "FLIP_REWARD_CACHE": str(tmp_path / "cache.sqlite3"),
        }
        runs = [
            subprocess.run(
                [sys.executable, "-W", "always::ResourceWarning", "-c", program],
                env={**os.environ, **settings},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            for _ in range(2)
        ]
        assert len(server.received) == 1
    assert runs[0].stdout == runs[1].stdout
    assert [run.stderr for run in runs] == ["", ""]
