"""How a training tells what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GrpoProgress:
    """Where a training stands.

    Attributes:
        step: Steps done, those of earlier sessions included.
        steps: All steps.
        reward: The mean over the last steps that were logged together.
        held_out_reward: Of the last evaluation.
        seconds_left: At this pace; None before the first step.
    """

    step: int
    steps: int
    reward: float | None = None
    held_out_reward: float | None = None
    seconds_left: float | None = None


class GrpoObserver(Protocol):
    """Someone who watches."""

    def say(self, message: str, *, warning: bool = False) -> None:
        """Something worth a line."""

    def advanced(self, progress: GrpoProgress) -> None:
        """A step is done, or a reward is known."""


class SilentGrpoObserver:
    """Watches and says nothing."""

    def say(self, message: str, *, warning: bool = False) -> None:
        """Take no notice."""

    def advanced(self, progress: GrpoProgress) -> None:
        """Take no notice."""
