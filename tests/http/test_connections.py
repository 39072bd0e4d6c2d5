"""How long connections stay open: from call to call, until a reward is closed or gone."""

from __future__ import annotations

import asyncio
import gc

from flip_reward.core.conversation import Group
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from tests.http.fault_server import FaultServer

GROUP = Group.of("Name a fruit.", "A pear is a fruit.")


def load(server: FaultServer) -> RewardModel:
    return RewardConfig(model=server.model, base_url=server.base_url, cache="off", max_attempts=1).load()


async def test_closing_lets_requests_in_flight_finish() -> None:
    with FaultServer(latency_seconds=0.3) as server:
        reward = load(server)
        [first, second] = [asyncio.create_task(reward.score(GROUP)) for _ in range(2)]
        while not server.received:  # noqa: ASYNC110 - it runs in a thread of its own
            await asyncio.sleep(0.01)
        await reward.aclose()
        assert [score.outcome.value for scores in (await first, await second) for score in scores] == ["scored"] * 2
        [again] = await reward.score(Group.of("Name a bread.", "Rye."))
        assert again.outcome.value == "scored", "a closed reward may be used again"
        await reward.aclose()


def test_a_reward_that_is_gone_leaves_no_connection_behind() -> None:
    """A warning of an unclosed connection would be an error here."""
    with FaultServer() as server:
        reward = load(server)
        cycle = [reward]
        cycle.append(cycle)  # type: ignore[arg-type]  # collected later, with all that hangs on it
        assert reward.score_sync(GROUP)[0].value is not None
        del reward, cycle
        gc.collect()
        with load(server) as other:
            assert other.score_sync(GROUP)[0].value is not None
