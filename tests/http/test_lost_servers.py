"""Runs whose server changes its mind: a fault that is mended later costs no row, whoever asked."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome
from flip_reward.engines.base import Request
from flip_reward.errors import EngineUnavailableError, RunMismatchError
from flip_reward.rewards.config import RewardConfig
from flip_reward.scoring.files import score_file
from flip_reward.scoring.run_folder import read_records
from tests.http.fault_server import Choose, Fault, FaultServer, from_then_on, never
from tests.http.logprob_servers import LogprobServer
from tests.http.picky_server import PickyServer

ROWS = 60
WORKERS = 8


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": f"say word{i}", "responses": [f"is word{i}", f"no word{i}"]} for i in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def verdict(_request: Request) -> str:
    """Answer any reward."""
    return '{"INFERRED INSTRUCTION": "say it", "SCORE": 7, "BETTER_RESPONSE": "A", "BEST_RESPONSE_INDEX": 1}'


def score(
    source: Path,
    server: FaultServer,
    reward: str = "flip",
    *,
    model: str | None = None,
    retry_refused: bool = False,
    same_model: bool = False,
) -> dict[str, int]:
    config = RewardConfig(
        reward=reward, model=model or server.model, base_url=server.base_url, cache="off", max_attempts=2
    )
    return score_file(
        config.load(),
        source,
        run_folder=source.with_name("run"),
        workers=WORKERS,
        retry_refused=retry_refused,
        same_model=same_model,
    ).outcomes


def outcomes_of(source: Path) -> Counter[Outcome]:
    """The outcomes of a run; none where it never began."""
    folder = source.with_name("run")
    return Counter(record.score.outcome for record in (read_records(folder) if folder.exists() else ()))


@pytest.mark.parametrize(
    "fault",
    [
        Fault.UNAUTHORIZED,
        Fault.PAYMENT_REQUIRED,
        Fault.FORBIDDEN,
        Fault.UNLOADED,
        Fault.LOGIN,
        Fault.QUOTA,
        Fault.DAILY_LIMIT,
        Fault.REFUSED,
        Fault.UNPROCESSABLE,
    ],
)
@pytest.mark.parametrize("answered", [0, 2 * ROWS - 1], ids=["from the start", "at the very end"])
def test_no_row_is_settled_by_a_server_that_is_lost(fault: Fault, answered: int, source: Path) -> None:
    with FaultServer(from_then_on(fault, after=answered)) as server, pytest.raises(EngineUnavailableError):
        score(source, server)
    outcomes = outcomes_of(source)
    assert set(outcomes) <= {Outcome.SCORED}
    with FaultServer() as server:
        assert score(source, server) == {"scored": 2 * ROWS}
        assert server.requests.total() == 2 * ROWS - outcomes.total()


@pytest.mark.parametrize("reward", ["pointwise", "pairwise", "listwise", "backward-likelihood"])
def test_every_reward_stops_and_goes_on(reward: str, source: Path) -> None:
    def serve(choose: Choose) -> FaultServer:
        if reward == "backward-likelihood":
            return LogprobServer("vllm", choose)
        return FaultServer(choose, script=verdict)

    with serve(from_then_on(Fault.REFUSED, after=30)) as server, pytest.raises(EngineUnavailableError):
        score(source, server, reward)
    assert set(outcomes_of(source)) <= {Outcome.SCORED}
    with serve(never) as server:
        assert score(source, server, reward) == {"scored": 2 * ROWS}


def refuse_sevens(prompt: str, _number: int) -> Fault | None:
    return Fault.REFUSED if "7" in prompt.rpartition("word")[2] else None


def test_single_refusals_are_settled_and_asked_again_only_on_request(source: Path) -> None:
    with FaultServer(refuse_sevens) as server:
        outcomes = score(source, server)
        refused = outcomes["request_refused"]
        assert outcomes == {"scored": 2 * ROWS - refused, "request_refused": refused}
        asked = server.requests.total()
        assert score(source, server) == outcomes
        assert server.requests.total() == asked
    with FaultServer() as server:
        assert score(source, server, retry_refused=True) == {"scored": 2 * ROWS}
        assert server.requests.total() == refused


def test_rows_that_are_all_refused_for_their_own_sake_are_settled(source: Path) -> None:
    with FaultServer(lambda prompt, _number: Fault.REFUSED if "word" in prompt else None) as server:
        assert score(source, server) == {"request_refused": 2 * ROWS}


def test_a_refused_row_is_settled_also_where_the_harmless_request_is_refused_for_another_reason(source: Path) -> None:
    def refuse(body: dict[str, Any]) -> str | None:
        text = body["messages"][-1]["content"]
        return "too short" if len(text) < 20 else "flagged" if re.search(r"word7\b", text) else None

    with PickyServer(refuse) as server:
        assert score(source, server) == {"scored": 2 * ROWS - 2, "request_refused": 2}


def test_a_lost_server_that_words_every_refusal_anew_settles_no_row(source: Path) -> None:
    number = count()

    def refuse(_body: dict[str, Any]) -> str | None:
        asked = next(number)
        return f"no such deployment (request {asked})" if asked > ROWS else None

    with PickyServer(refuse) as server, pytest.raises(EngineUnavailableError):
        score(source, server)
    assert set(outcomes_of(source)) == {Outcome.SCORED}


def begin(source: Path, server: FaultServer, model: str | None = None) -> None:
    """Score a part of the rows at a server."""
    with server, pytest.raises(EngineUnavailableError):
        score(source, server, model=model)


class TestMovedServer:
    def test_a_server_that_lists_the_model_has_the_same(self, source: Path) -> None:
        begin(source, FaultServer(from_then_on(Fault.QUOTA, after=20)))
        with FaultServer() as elsewhere:
            assert score(source, elsewhere) == {"scored": 2 * ROWS}

    def test_one_that_takes_any_name_is_asked_about(self, source: Path) -> None:
        begin(source, FaultServer(from_then_on(Fault.QUOTA, after=20), takes_any_name=True), model="mine")
        with FaultServer(takes_any_name=True) as elsewhere:
            for _ in range(2):  # having been refused once is no permission
                with pytest.raises(RunMismatchError, match=elsewhere.base_url) as caught:
                    score(source, elsewhere, model="mine")
            assert "--same-model" in str(caught.value.hint)
            assert not elsewhere.requests
            assert score(source, elsewhere, model="mine", same_model=True) == {"scored": 2 * ROWS}
        with FaultServer(takes_any_name=True) as third:  # nothing is left to ask
            assert score(source, third, model="mine") == {"scored": 2 * ROWS}

    def test_its_cached_answers_are_taken_only_where_the_model_is_listed(self, source: Path) -> None:
        cache = str(source.with_name("cache.sqlite3"))

        def score_anew(server: FaultServer, model: str | None = None) -> int:
            again = source.with_name(f"{server.base_url.rpartition(':')[2].partition('/')[0]}.jsonl")
            again.write_bytes(source.read_bytes())
            config = RewardConfig(model=model or server.model, base_url=server.base_url, cache=cache)
            score_file(config.load(), again, run_folder=again.with_suffix(""), workers=WORKERS)
            return server.requests.total()

        with FaultServer() as first, FaultServer() as second:
            assert score_anew(first) == 2 * ROWS
            assert score_anew(second) == 0
        with FaultServer(takes_any_name=True) as first, FaultServer(takes_any_name=True) as second:
            assert score_anew(first, "mine") == 2 * ROWS
            assert score_anew(second, "mine") == 2 * ROWS
            assert second.lists_asked <= 2 * WORKERS, "of those that came at once"
        with sqlite3.connect(cache) as connection:
            [(answers,)] = connection.execute("SELECT COUNT(*) FROM responses").fetchall()
        assert answers == 4 * ROWS


async def test_an_adapter_raises_whatever_unscored_samples_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    from flip_reward.integrations.base import forget_environment_reward
    from flip_reward.integrations.verl import compute_score

    with FaultServer(from_then_on(Fault.REFUSED, after=1)) as server:
        for name, value in {
            "MODEL": server.model,
            "BASE_URL": server.base_url,
            "CACHE": "off",
            "ON_UNSCORED": "-1",
        }.items():
            monkeypatch.setenv(f"FLIP_REWARD_{name}", value)
        forget_environment_reward()
        sample = {"prompt": "Say that it rains."}
        assert (await compute_score("", "It rains.", "", sample))["score"] > 0
        for _ in range(3):
            with pytest.raises(EngineUnavailableError, match="injected 400"):
                await compute_score("", "It pours.", "", sample)
        forget_environment_reward()


async def test_a_reward_that_is_asked_directly_raises() -> None:
    with FaultServer(from_then_on(Fault.UNPROCESSABLE, after=1)) as server:
        reward = RewardConfig(model=server.model, base_url=server.base_url, cache="off").load()
        await reward.score([Group.of("Say hi.", ["Hi."])])
        with pytest.raises(EngineUnavailableError):
            await reward.score([Group.of("Say hi.", ["Hello."])])
        await reward.aclose()
