"""`Scorer`: groups -> scores, the one core behind every route.

`EngineHealth`: whether the language model behind the server answers.

`Admission`: how much work is taken on, and when to come again.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Sequence
from typing import TypeAlias

from flip_reward.core.conversation import Group, Message
from flip_reward.core.score import Outcome, Score
from flip_reward.engines.base import Engine, Request, Sampling
from flip_reward.engines.middleware import EngineMiddleware
from flip_reward.errors import EngineUnavailableError, FlipRewardError, InputError
from flip_reward.rewards.base import RewardModel, gather_all
from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import ApiError, Problem, RowError
from flip_reward.server.settings import Limits

FRESH_SECONDS = 10.0
PROBE_SECONDS = 5.0
# Drawn without a seed, so that no cache answers it.
_PROBE = Request((Message("user", "Say yes."),), Sampling(temperature=1.0, max_tokens=1))

log = logging.getLogger("flip_reward.server")


class EngineHealth:
    """Knows when the engine last answered, and asks it for one token where that was too long ago.

    Args:
        engine: The engine, with the middleware around it. The probe goes to the one inside, so that it fails at once
            and with the cause.
    """

    def __init__(self, engine: Engine) -> None:
        while isinstance(engine, EngineMiddleware):
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
            elif score.cost.attempts:
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


LONGEST_RETRY_AFTER_SECONDS = 60.0
_NEWS = 0.05  # the weight of each answer in the average pace


class Admission:
    """Counts the responses that are accepted and not yet answered, and turns away what comes beyond a limit.

    Work that is turned away at once costs next to nothing, and the client knows when to come again. Work that waits
    in a queue without an end is answered when nobody wants it any more.

    Args:
        max_pending: The most responses, at least 1.

    Attributes:
        pending: How many there are now.

    Example:
        >>> admission = Admission(8)
        >>> admission.enter(8)
        >>> admission.full
        True
        >>> admission.leave(8)
        >>> admission.pending
        0
    """

    def __init__(self, max_pending: int) -> None:
        self.pending = 0
        self._max_pending = max_pending
        self._seconds_per_response = 0.0
        self._last_left = 0.0

    @property
    def full(self) -> bool:
        """Whether not one more response fits."""
        return self.pending >= self._max_pending

    def enter(self, count: int) -> None:
        """Take a request of so many responses on.

        Raises:
            ApiError: It does not fit now (429), or never will (413).
        """
        if count > self._max_pending:
            raise ApiError(
                413,
                Problem.TOO_LARGE,
                f"{count} responses in one request; at most {self._max_pending} are taken on at once",
            )
        if self.pending + count > self._max_pending:
            raise self.refusal()
        if not self.pending:
            self._last_left = time.monotonic()  # from here on somebody waits, and the pace can be told
        self.pending += count

    def leave(self, count: int) -> None:
        """Give the places of so many responses back."""
        now = time.monotonic()
        if count:
            pace = (now - self._last_left) / count
            self._seconds_per_response += _NEWS * (pace - self._seconds_per_response)
        self._last_left = now
        self.pending -= count

    def refusal(self) -> ApiError:
        """Return what a request is told that does not fit: to come again when half of the work may be done."""
        wait_seconds = min(self.pending * self._seconds_per_response / 2, LONGEST_RETRY_AFTER_SECONDS)
        return ApiError(
            429,
            Problem.QUEUE_FULL,
            f"{self.pending} responses are being scored or wait for it, which is all that is taken on at once",
            retry_after_seconds=wait_seconds,
        )


Row: TypeAlias = Group | RowError
"""What a contract makes of one row of a request."""
Result: TypeAlias = tuple[Score, ...] | RowError
"""What becomes of it: one score for every response, in order."""

log = logging.getLogger("flip_reward.server")


class Scorer:
    """Scores the rows of requests within the limits, each row on its own.

    Args:
        reward: Scores the groups.
        limits: What is taken on.
        metrics: Counts.

    Attributes:
        reward: The reward.
        reward_name: Its name.
        admission: What is being scored or waits for it.
        health: Whether the engine answers.
    """

    def __init__(self, reward: RewardModel, limits: Limits, metrics: Metrics) -> None:
        self.reward = reward
        self.reward_name = str(reward.settings["reward"])
        self.admission = Admission(limits.max_pending)
        self.health = EngineHealth(reward.engine)
        self._limits = limits
        self._metrics = metrics

    async def score(self, rows: Sequence[Row]) -> list[Result]:
        """Score every row that can be scored; a row that cannot be fails alone.

        Raises:
            ApiError: There is no place for them now.
        """
        checked = [self._check(row) for row in rows]
        groups = [row for row in checked if isinstance(row, Group)]
        count = sum(len(group.responses) for group in groups)
        self.admission.enter(count)
        try:
            # What has arrived together is counted before any of it is worked on. Otherwise an engine that answers
            # without waiting would be kept busy while requests pile up unread, and none would be turned away.
            await asyncio.sleep(0)
            if len(groups) == 1:
                scored = [await self._score_group(groups[0])]
            else:
                scored = await gather_all(self._score_group(group) for group in groups)
        finally:
            self.admission.leave(count)
        results = iter(scored)
        return [next(results) if isinstance(row, Group) else row for row in checked]

    async def aclose(self) -> None:
        """Release what the engine holds."""
        await self.health.aclose()
        await self.reward.engine.aclose()

    def _check(self, row: Row) -> Row:
        if isinstance(row, RowError):
            return row
        limits = self._limits
        if len(row.responses) > limits.max_candidates:
            return RowError(
                Problem.TOO_LARGE, f"{len(row.responses)} responses; at most {limits.max_candidates} are taken"
            )
        longest = max(map(len, row.responses))
        for message in row.messages:
            longest = max(longest, len(message.content))
        if longest > limits.max_text_characters:
            return RowError(
                Problem.TOO_LARGE,
                f"a text of {longest:,} characters; at most {limits.max_text_characters:,} are read",
            )
        return row

    async def _score_group(self, group: Group) -> Result:
        try:
            scores = (await self.reward.score_group(group)).scores
        except InputError as error:
            return RowError(Problem.BAD_ROW, str(error))
        except EngineUnavailableError as error:
            # A run ends here. A server waits for the engine to come, and says so meanwhile.
            scores = tuple(Score(None, Outcome.ENGINE_FAILURE, detail=str(error)) for _ in group.responses)
        except Exception as error:  # noqa: BLE001 - whatever one row does to us, the others are answered
            log.error("a row failed: %s", describe(error))  # noqa: TRY400 - a traceback may quote texts
            return RowError(Problem.INTERNAL, f"the row failed inside the server: {type(error).__name__}")
        self.health.note(scores)
        self._metrics.count(scores)
        return scores


def describe(error: BaseException) -> str:
    """Say where an error came from, without its message, which may quote texts.

    Example:
        >>> try:
        ...     int("secret")
        ... except ValueError as error:
        ...     print(describe(error).partition(" at ")[0])
        ValueError
    """
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return f"{type(error).__name__} at " + " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
