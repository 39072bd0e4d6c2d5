"""Requests about one group come to a server side by side, so that what it keeps of their prompts is there still."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from flip_reward import CompositeReward, FlipOptions, FlipReward, Group, RewardModel, Sampling
from flip_reward.engines.base import Engine
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import build_stack
from tests.http.fault_server import FaultServer

GROUPS = [
    Group.of("Name three fruits.", [f"Name three fruits? Pear {group}.{response}." for response in range(3)])
    for group in range(4)
]
PEARS = [f"{group}.{response}" for group in range(4) for response in range(3)]


def guarded(engine: Engine) -> RewardModel:
    return FlipReward(engine, FlipOptions("compact", copy_guard=True))


def sampled(engine: Engine) -> RewardModel:
    return FlipReward(engine, FlipOptions("compact", samples=3, sampling=Sampling(temperature=1.0, seed=1)))


def composite(engine: Engine) -> RewardModel:
    flip, other = FlipReward(engine, FlipOptions("compact")), FlipReward(engine, FlipOptions("direct"))
    return CompositeReward("flip + other", {"flip": flip, "other": other})


@pytest.mark.parametrize("make", [guarded, sampled, composite])
async def test_requests_of_a_group_come_side_by_side(make: Callable[[Engine], RewardModel]) -> None:
    with FaultServer() as server:
        engine = build_stack(HttpEngine(server.base_url, server.model), concurrency=1)
        reward = make(engine)
        await reward.score(GROUPS)
        await engine.aclose()
        asked = [re.search(r"Pear (\d\.\d)", str(received.body["messages"])) for received in server.received]
    pears = [found[1] for found in asked if found]
    assert len(pears) == len(asked) > len(PEARS)
    assert sorted(set(pears)) == PEARS
    assert [pear[0] for pear in pears] == sorted(pear[0] for pear in pears)
