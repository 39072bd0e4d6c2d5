"""`Scorer`: rows in, scores out, the one core behind every route.

`Admission` limits how much work is accepted; `EngineHealth` knows whether the language model answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import EngineUnavailableError, FlipRewardError, InputError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.waiting import gather_all
from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import ApiError, Problem, RowError, engine_failed
from flip_reward.server.settings import Limits

Row: TypeAlias = Group | RowError
"""One row of a request, as a contract reads it."""
Result: TypeAlias = tuple[Score, ...] | RowError
"""The result of a row: one score for every response, in order, or why there are none."""

LONGEST_RETRY_AFTER_SECONDS = 60.0
FRESH_SECONDS = 10.0
PROBE_SECONDS = 5.0
_PACE_WEIGHT = 0.05  # of the newest answer in the average pace

log = logging.getLogger("flip_reward.server")


class Scorer:
    """Scores the rows of requests within the limits, each row on its own."""

    def __init__(self, reward: RewardModel, limits: Limits, metrics: Metrics) -> None:
        self.reward = reward
        self.reward_name = str(reward.settings["reward"])
        self.model = reward.model_name
        self.admission = Admission(limits.max_pending)
        self.health = EngineHealth(reward)
        self._limits = limits
        self._metrics = metrics

    async def score(self, rows: Sequence[Row]) -> Sequence[Result]:
        """Score every row that can be scored; a row that cannot be fails alone.

        An `ApiError` says that the server has no room for them now, or that the engine answers nothing.
        """
        results: list[Result] = []
        groups: list[tuple[int, Group]] = []
        count = 0
        for number, row in enumerate(rows):
            problem = row if isinstance(row, RowError) else self._exceeds(row)
            results.append(problem or ())
            if problem is None and isinstance(row, Group):
                groups.append((number, row))
                count += len(row.responses)
        self.admission.enter(count)
        try:
            # Count what arrived together before any of it is worked on. Otherwise an engine that answers without
            # waiting would be kept busy while requests pile up unread, and none would be turned away.
            await asyncio.sleep(0)
            if len(groups) == 1:
                [(number, group)] = groups
                results[number] = await self._score_group(group)
            else:
                scored = await gather_all(self._score_group(group) for _, group in groups)
                for (number, _), result in zip(groups, scored, strict=True):
                    results[number] = result
        finally:
            self.admission.leave(count)
        return results

    async def score_in_turn(self, row: Row) -> Result:
        """Score one row as soon as there is room; an `ApiError` says that the engine answers nothing."""
        if isinstance(row, RowError):
            return row
        problem = self._exceeds(row)
        if problem is not None:
            return problem
        count = len(row.responses)
        await self.admission.wait_and_enter(count)
        try:
            return await self._score_group(row)
        finally:
            self.admission.leave(count)

    async def aclose(self) -> None:
        """Release what the engine holds."""
        await self.health.aclose()
        await self.reward.aclose()

    def _exceeds(self, group: Group) -> RowError | None:
        limits = self._limits
        if len(group.responses) > limits.max_candidates:
            return RowError(
                Problem.TOO_LARGE, f"{len(group.responses)} responses; at most {limits.max_candidates} are accepted"
            )
        longest = max(map(len, group.responses))
        for message in group.messages:
            longest = max(longest, len(message.content))
        if longest > limits.max_text_characters:
            return RowError(
                Problem.TOO_LARGE,
                f"a text of {longest:,} characters; at most {limits.max_text_characters:,} are accepted",
            )
        return None

    async def _score_group(self, group: Group) -> Result:
        try:
            scores = (await self.reward.score_group(group)).scores
        except InputError as error:
            return RowError(Problem.BAD_ROW, str(error))
        except EngineUnavailableError as error:
            # A run ends here. A server waits for the engine to come back, and says so meanwhile.
            self.health.note_lost()
            raise engine_failed(str(error)) from error
        except Exception as error:  # noqa: BLE001 - whatever one row does, the others are answered
            log.error("a row failed: %s", describe(error))  # noqa: TRY400 - a traceback may quote texts
            return RowError(Problem.INTERNAL, f"the row failed inside the server: {type(error).__name__}")
        self.health.note(scores)
        self._metrics.count(scores)
        return scores


class Admission:
    """Counts the responses that are accepted and not yet answered, and turns away what exceeds the limit.

    Turning work away costs next to nothing, and the client knows when to come again. In an endless queue, work is
    answered when nobody waits for it any more.
    """

    def __init__(self, max_pending: int) -> None:
        self.pending = 0
        self._max_pending = max_pending
        self._seconds_per_response = 0.0
        self._last_left = 0.0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def full(self) -> bool:
        """Whether no further response fits."""
        return self.pending >= self._max_pending

    def enter(self, count: int) -> None:
        """Accept a request of `count` responses; an `ApiError` when it does not fit now (429) or never will (413)."""
        if count > self._max_pending:
            raise ApiError(
                413,
                Problem.TOO_LARGE,
                f"{count} responses in one request; at most {self._max_pending} are accepted at once",
            )
        if self.pending + count > self._max_pending:
            raise self.refusal()
        if not self.pending:
            self._last_left = time.monotonic()  # from here on somebody waits, so the pace can be measured
        self.pending += count

    async def wait_and_enter(self, count: int) -> None:
        """Accept `count` responses of a stream as soon as they fit; who came first is first."""
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, accepted))
        self._accept_waiting()
        try:
            await accepted
        except asyncio.CancelledError:
            if not accepted.cancelled():
                self.leave(count)
            raise

    def leave(self, count: int) -> None:
        """Free the places of a number of responses."""
        now = time.monotonic()
        if count:
            pace = (now - self._last_left) / count
            self._seconds_per_response += _PACE_WEIGHT * (pace - self._seconds_per_response)
        self._last_left = now
        self.pending -= count
        self._accept_waiting()

    def _accept_waiting(self) -> None:
        while self._waiting:
            count, accepted = self._waiting[0]
            if not accepted.done():
                if self.pending + count > self._max_pending:
                    break
                self.enter(count)
                accepted.set_result(None)
            self._waiting.popleft()

    def refusal(self) -> ApiError:
        """Make the error for a request that does not fit: come again when about half of the work is done."""
        return ApiError(
            429,
            Problem.QUEUE_FULL,
            f"{self.pending} responses are being scored or wait for it, which is all that the server accepts at once",
            retry_after_seconds=min(self.pending * self._seconds_per_response / 2, LONGEST_RETRY_AFTER_SECONDS),
        )


class EngineHealth:
    """Knows when the engines last answered, and asks each for as little as it answers when that was too long ago.

    The probe goes to the engine inside its middleware, so that it fails at once and with the cause. A reward without
    an engine always answers.
    """

    def __init__(self, reward: RewardModel) -> None:
        self._reward = reward
        self._answered_at = float("-inf")
        self._trouble = ""
        self._probe: asyncio.Task[bool] | None = None

    def note(self, scores: tuple[Score, ...]) -> None:
        """Learn from new scores."""
        failed = False
        for score in scores:
            if score.outcome is Outcome.ENGINE_FAILURE:
                failed = True
            elif score.cost.attempts:
                self._answers()
                return
        if failed:
            self.note_lost()

    def note_lost(self) -> None:
        """Learn that the engine failed: it is not ready before it has answered."""
        if not self._trouble and self._reward.engines:
            self._answered_at = float("-inf")
            self._start_probe()  # its failure can be logged in full: it quotes no client

    async def check(self) -> bool:
        """Tell whether the engines answer."""
        if not self._reward.engines or time.monotonic() - self._answered_at < FRESH_SECONDS:
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
                await self._reward.probe()
        except (FlipRewardError, TimeoutError) as error:
            trouble = str(error) or f"no answer within {PROBE_SECONDS:g} s"
            if trouble != self._trouble:  # once, however often somebody asks
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
