"""How a tuning tells what it does, and is asked to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TuningProgress:
    """Where a tuning stands.

    Attributes:
        step: Steps done, those of earlier sessions included.
        steps: All steps.
        loss: Of the last steps; a mean over tokens, in nats.
        held_out_loss: Of the last evaluation.
        tokens_per_second: Read in this session, without padding.
        seconds_left: At this pace; None before the first step.
    """

    step: int
    steps: int
    loss: float | None = None
    held_out_loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None


class TuningObserver(Protocol):
    """Someone who watches."""

    def say(self, message: str, *, warning: bool = False) -> None:
        """Something worth a line."""

    def advanced(self, progress: TuningProgress) -> None:
        """A step is done, or a loss is known."""


class SilentObserver:
    """Watches and says nothing."""

    def say(self, message: str, *, warning: bool = False) -> None:
        """Take no notice."""

    def advanced(self, progress: TuningProgress) -> None:
        """Take no notice."""
