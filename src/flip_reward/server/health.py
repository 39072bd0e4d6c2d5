"""`EngineHealth`: whether the language model behind the server answers."""

from __future__ import annotations

import asyncio
import logging
import time

from flip_reward.core.conversation import Message
from flip_reward.core.score import Outcome, Score
from flip_reward.engines.base import Engine, Request, Sampling
from flip_reward.engines.layers import EngineLayer
from flip_reward.errors import FlipRewardError

FRESH_SECONDS = 10.0
PROBE_SECONDS = 5.0
# Drawn without a seed, so that no cache answers it.
_PROBE = Request((Message("user", "Say yes."),), Sampling(temperature=1.0, max_tokens=1))

log = logging.getLogger("flip_reward.server")


class EngineHealth:
    """Knows when the engine last answered, and asks it for one token where that was too long ago.

    Args:
        engine: The engine, with the layers around it. The probe goes to the one inside, so that it fails at once and
            with the cause.
    """

    def __init__(self, engine: Engine) -> None:
        while isinstance(engine, EngineLayer):
            engine = engine.engine
        self._engine = engine
        self._answered_at = float("-inf")
        self._trouble = ""
        self._probe: asyncio.Task[bool] | None = None

    def note(self, scores: tuple[Score, ...]) -> None:
        """Learn from scores that were just made."""
        failed = False
        for score in scores:
            if score.outcome is Outcome.ENGINE_FAILURE:
                failed = True
            elif score.attempts:
                self._answers()
                return
        if failed and not self._trouble:
            self._answered_at = float("-inf")
            self._start_probe()  # its failure may be written down in full, for it quotes no text of a client

    async def check(self) -> bool:
        """Tell whether the engine answers."""
        if time.monotonic() - self._answered_at < FRESH_SECONDS:
            return True
        return await asyncio.shield(self._start_probe())

    async def aclose(self) -> None:
        """End a probe that is under way."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    def _start_probe(self) -> asyncio.Task[bool]:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self._ask())
        return self._probe

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._engine.complete(_PROBE)
        except (FlipRewardError, TimeoutError) as error:
            trouble = str(error) or f"no answer within {PROBE_SECONDS:g} s"
            if trouble != self._trouble:  # said once, however often somebody looks
                log.warning("the engine does not answer: %s", trouble)
            self._trouble = trouble
            self._answered_at = float("-inf")
            return False
        self._answers()
        return True

    def _answers(self) -> None:
        if self._trouble:
            log.warning("the engine answers again")
        self._trouble = ""
        self._answered_at = time.monotonic()
