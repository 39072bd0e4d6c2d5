"""What a person sees of a training."""

from __future__ import annotations

from rich.console import Console

from flip_reward.cli.steps_display import StepsDisplay
from flip_reward.training.common.progress import GrpoProgress


class TrainDisplay(StepsDisplay):
    """Shows how a training goes.

    Args:
        console: Where.
        silent: Show nothing: for all processes of a training but the first.
    """

    def __init__(self, console: Console, *, silent: bool = False) -> None:
        super().__init__(console, "training", silent=silent)

    def advanced(self, progress: GrpoProgress) -> None:
        """Move the bar."""
        state = []
        if progress.reward is not None:
            state.append(f"reward {progress.reward:.3f}")
        if progress.held_out_reward is not None:
            state.append(f"held out {progress.held_out_reward:.3f}")
        self._move(progress.step, progress.steps, progress.seconds_left, state)
