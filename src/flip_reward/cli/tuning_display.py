"""What a person sees of a tuning."""

from __future__ import annotations

from rich.console import Console

from flip_reward.cli.steps_display import StepsDisplay
from flip_reward.training.common.tuning_progress import TuningProgress


class TuningDisplay(StepsDisplay):
    """Shows how a tuning goes.

    Args:
        console: Where.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console, "tuning")

    def advanced(self, progress: TuningProgress) -> None:
        """Move the bar."""
        state = []
        if progress.tokens_per_second is not None:
            state.append(f"{progress.tokens_per_second:,.0f} tokens/s")
        if progress.loss is not None:
            state.append(f"loss {progress.loss:.3f}")
        if progress.held_out_loss is not None:
            state.append(f"held out {progress.held_out_loss:.3f}")
        self._move(progress.step, progress.steps, progress.seconds_left, state)
