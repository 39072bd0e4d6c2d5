"""`Admission`: how much work is taken on, and when to come again."""

from __future__ import annotations

import time

from flip_reward.server.problems import ApiError, Problem

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
