"""`Scorer`: groups -> scores, the one core behind every route."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Sequence
from typing import TypeAlias

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import EngineUnavailableError, InputError
from flip_reward.rewards.base import RewardModel, gather_all
from flip_reward.server.admission import Admission
from flip_reward.server.health import EngineHealth
from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import Problem, RowError
from flip_reward.server.settings import Limits

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
            scores = await self.reward.score_group(group)
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
