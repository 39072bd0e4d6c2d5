from __future__ import annotations

import asyncio

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import (
    Completion,
    LogprobRequest,
    Request,
    Sampling,
    TokenLogprobs,
    complete_one_by_one,
)
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.errors import EngineServerError

EIGHT = Request((Message("user", "Hello"),), Sampling(temperature=1.0), n=8)


class CountingEngine:
    """Draws one sample at a time, and remembers how many at once."""

    model = identity = "counting"

    def __init__(self, failing: int | None = None) -> None:
        self.failing = failing
        self.asked = self.in_flight = self.most = 0

    async def complete(self, request: Request) -> Completion:
        return await complete_one_by_one(request, self._draw)

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        raise AssertionError(f"nobody asks for {request}")

    async def aclose(self) -> None:
        """Nothing to release."""

    async def _draw(self, request: Request) -> Completion:
        assert request.n == 1
        self.asked += 1
        number = self.asked
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(0.001)
            if number == self.failing:
                raise EngineServerError("broken")
            return Completion(f"reply {number}")
        finally:
            self.in_flight -= 1


async def test_several_samples_keep_the_limit_of_requests_in_flight() -> None:
    engine = CountingEngine()
    stack = build_stack(engine, concurrency=4)
    replies = await asyncio.gather(*(stack.complete(EIGHT) for _ in range(6)))
    assert [len(reply.others) for reply in replies] == [7] * 6
    assert engine.most == 4


async def test_a_sample_that_fails_leaves_nothing_behind() -> None:
    engine = CountingEngine(failing=3)
    with pytest.raises(EngineServerError):
        await build_stack(engine, concurrency=4, retry=RetryPolicy(max_attempts=1)).complete(EIGHT)
    await asyncio.sleep(0.01)
    assert (engine.asked, engine.in_flight) == (3, 0)
