"""A client is told what is wrong with what it meant to send, and not with every shape that it might have sent."""

from __future__ import annotations

import json

import pytest

from flip_reward import FlipReward, ScriptedEngine
from flip_reward.server.contracts.rerank import RERANK, SCORE
from flip_reward.server.contracts.rewards import REWARDS
from flip_reward.server.contracts.trainers import GET_REWARD
from flip_reward.server.exchange import Context, Contract, read_question
from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import ApiError, RowError
from flip_reward.server.scorer import Scorer
from flip_reward.server.settings import Limits, ServerSettings


@pytest.mark.parametrize(
    ("contract", "body", "message"),
    [
        (GET_REWARD, {}, "needed is query, or prompt and response, or messages"),
        (GET_REWARD, {"query": ["a", 1]}, "query.1: Input should be a valid string"),
        (GET_REWARD, {"query": "a", "prompts": ["b"]}, "query: Input should be a valid array"),
        (GET_REWARD, {"prompt": "a", "label": "b"}, "response: Field required"),
        (GET_REWARD, {"prompt": [{"content": "a"}], "response": "b"}, "prompt.0.role: Field required"),
        (GET_REWARD, {"model": "a", "messages": [{"role": "user"}]}, "messages.0: Input should be a valid string"),
        (GET_REWARD, [], "Input should be an object"),
        (SCORE, {}, "queries: Field required; documents: Field required"),
        (SCORE, {"query": "a", "documents": ["b"]}, "queries: Field required"),
        (SCORE, {"text_1": "a", "text_2": ["b", 1]}, "text_2.1: Input should be a valid string, or an object"),
        (
            RERANK,
            {"query": "a", "documents": ["b"], "top_n": -1},
            "top_n: Input should be greater than or equal to 0",
        ),
        (RERANK, {"query": 1}, "query: Input should be a valid string, or an object; documents: Field required"),
        (REWARDS, {"groups": {}}, "groups: Input should be a valid array"),
    ],
)
def test_bodies(contract: Contract, body: object, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_question(json.dumps(body).encode(), contract)
    assert (caught.value.status, str(caught.value)) == (422, message)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"prompt": [{"content": "a"}], "responses": ["b"]}, "prompt.0.role: Field required"),
        ({"prompt": 1, "responses": ["b"]}, "prompt: Input should be a valid string, or a valid list"),
        (
            {"messages": [{"role": "user", "content": [{"type": 1, "text": "a"}]}], "response": "b"},
            "messages.0.content.0.type: Input should be a valid string",
        ),
        ({"prompt": "a", "reponses": ["b"]}, "responses: Field required"),
        ("no group", "Input should be an object"),
    ],
)
def test_groups(group: object, message: str) -> None:
    scorer = Scorer(FlipReward(ScriptedEngine()), Limits(), Metrics())
    question = read_question(json.dumps({"groups": [group]}).encode(), REWARDS)
    [row] = question.to_rows(Context(scorer, ServerSettings(), "1"))
    assert isinstance(row, RowError)
    assert row.message == message
