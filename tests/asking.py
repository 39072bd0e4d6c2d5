"""Questions to an engine, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flip_reward.engines.base import Completion, Engine, Request


def answer_all(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    async def run() -> list[Completion]:
        return await asyncio.gather(*map(engine.complete, requests))

    return asyncio.run(run())


def answer(engine: Engine, request: Request) -> Completion:
    return answer_all(engine, [request])[0]
