"""Rewards without a model over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flip_reward import RewardConfig
from tests.http.reward_server import RewardServer

PROMPT, RESPONSES = "Say hi.", ["hello", "hi there"]


@pytest.fixture(scope="module")
def longest() -> Iterator[RewardServer]:
    with RewardServer(RewardConfig(reward="longest").load()) as server:
        yield server


def test_it_is_ready_and_names_no_model(longest: RewardServer) -> None:
    assert longest.get("/health").status == longest.get("/ready").status == 200
    [model] = longest.get("/v1/models").json()["data"]
    assert (model["id"], model["reward"]) == ("none", "longest")
    answer = longest.post("/v1/rewards", {"groups": [{"prompt": PROMPT, "responses": RESPONSES}]}).json()
    assert (answer["reward"], answer["model"]) == ("longest", "none")
    assert [score["reward"] for score in answer["results"][0]["scores"]] == [5, 8]


def test_every_client_is_answered(longest: RewardServer) -> None:
    rows = {"query": [f"{PROMPT}{text}" for text in RESPONSES], "prompts": [PROMPT] * 2}
    assert longest.post("/get_reward", rows).json()["rewards"] == [5, 8]
    assert longest.post("/get_reward", {"prompt": PROMPT, "response": "hello", "label": None}).json() == 5
    scored = longest.post("/score", {"queries": PROMPT, "documents": RESPONSES}).json()
    assert [one["score"] for one in scored["data"]] == [5, 8]
    ranked = longest.post("/rerank", {"query": PROMPT, "documents": RESPONSES}).json()
    assert [one["index"] for one in ranked["results"]] == [1, 0]
