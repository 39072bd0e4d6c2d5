"""A watcher that raises an alarm where it is told to, in place of the monitor's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from flip_reward.audit.monitor.rollout import Alarm, Rollout, StepReport


class AlarmAt:
    """Raises an alarm at a step, and keeps what it was shown."""

    def __init__(self, step: int | None = None) -> None:
        self._step = step
        self.seen: dict[int, list[Rollout]] = {}
        self.held_out: dict[int, list[Rollout]] = {}

    def observe(self, step: int, rollouts: Sequence[Rollout]) -> StepReport:
        """Keep the rollouts of a step."""
        assert step not in self.seen
        assert all(step > earlier for earlier in self.seen)
        self.seen[step] = list(rollouts)
        rewards = [one.reward for one in rollouts if one.reward is not None]
        figures = {"reward": fmean(rewards)} if rewards else {}
        alarm = Alarm(step, step - 1, "copied", 1.5, f"Step {step}: responses copy more.", tuple(rollouts[:2]))
        return StepReport(step, figures, (alarm,) if step == self._step else ())

    def observe_held_out(self, step: int, rollouts: Sequence[Rollout]) -> StepReport:
        """Keep responses to held-out prompts."""
        self.held_out[step] = list(rollouts)
        return StepReport(step, {})
