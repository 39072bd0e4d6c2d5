"""How a training reports its progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands."""

    step: int
    """Steps done, those of earlier sessions included."""
    steps: int
    figures: Mapping[str, float] = field(default_factory=dict)
    """What was measured last, by name: "reward", "loss", "held out", "tokens/s"."""
    seconds_left: float | None = None
    """At this pace; None before the first step."""


class TrainingObserver(Protocol):
    """Someone who watches a training."""

    def say(self, message: str, *, warning: bool = False) -> None:
        """Something worth a line."""

    def advanced(self, progress: Progress) -> None:
        """A step is done, or a figure is known."""


class SilentObserver:
    """Watches and says nothing."""

    def say(self, message: str, *, warning: bool = False) -> None:
        """Take no notice."""

    def advanced(self, progress: Progress) -> None:
        """Take no notice."""
