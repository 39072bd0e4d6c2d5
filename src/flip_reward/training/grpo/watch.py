"""Hands the samples of every step to the monitor, and writes what it says. Imported late, since it is heavy.

FOLDER/alarms.jsonl                           a line for each alarm
FOLDER/checkpoints/checkpoint-8/monitor.json  what the monitor knows, so that a resumed training goes on alike
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from accelerate.utils import gather_object

from flip_reward.audit.monitor.alarms import append_alarms, keep_alarms
from flip_reward.audit.monitor.monitor import Monitor
from flip_reward.audit.monitor.options import MonitorOptions
from flip_reward.audit.monitor.rollout import Rollout
from flip_reward.data.files import write_atomically
from flip_reward.errors import RunError
from flip_reward.report.training.folder import Split
from flip_reward.training.common.folder import AlarmEnd, OnAlarm, step_of
from flip_reward.training.common.progress import TrainingObserver
from flip_reward.training.grpo.samples import SampleRow

_MONITOR = "monitor.json"


class RolloutWatch:
    """Watches the samples of all processes. Each of them computes the same, so that all end after the same step.

    Args:
        folder: That of the training; None in all processes but the first.
        monitor: Looks at the samples.
        action: What an alarm does.
        observer: Told about alarms.
    """

    def __init__(self, folder: Path | None, monitor: Monitor, action: OnAlarm, observer: TrainingObserver) -> None:
        self._folder, self._monitor, self._action, self._observer = folder, monitor, action, observer
        self.end: AlarmEnd | None = None
        """The alarm that ends the training, once there is one."""

    @classmethod
    def resume(
        cls,
        folder: Path,
        checkpoint: Path | None,
        options: MonitorOptions,
        action: OnAlarm,
        observer: TrainingObserver,
        *,
        first: bool,
    ) -> Self:
        """Go on from a checkpoint, where there is one; alarms of later steps are dropped, since these come again."""
        monitor = Monitor(options)
        if checkpoint is not None and (checkpoint / _MONITOR).is_file():
            try:
                monitor = Monitor.restore((checkpoint / _MONITOR).read_bytes(), options)
            except (OSError, RunError) as error:
                hint = "without the file the training goes on, and compares with the next steps"
                raise RunError(f"{checkpoint / _MONITOR} cannot be read", hint=hint) from error
        if first:
            keep_alarms(folder, -1 if checkpoint is None else step_of(checkpoint))
        return cls(folder if first else None, monitor, action, observer)

    def observe(self, split: Split, step: int, rows: Sequence[SampleRow], *, last: bool) -> Mapping[str, float]:
        """Take this process's samples, and return the figures of all. An alarm of the last step ends nothing."""
        rollouts: list[Rollout] = gather_object([row.to_rollout(step) for row in rows])
        if not rollouts:
            return {}
        if split is Split.TRAIN:
            report = self._monitor.observe(step, rollouts)
        else:
            report = self._monitor.observe_held_out(step, rollouts)
        for alarm in report.alarms:
            self._observer.say(alarm.message, warning=True)
            if self._action is not OnAlarm.WARN and not last:
                self.end = AlarmEnd(action=self._action, step=step, message=alarm.message)
        if report.alarms and self._folder is not None:
            append_alarms(self._folder, report.alarms)
        return report.figures

    def save(self, checkpoint: Path) -> None:
        """Write what the monitor knows into a checkpoint."""
        write_atomically(checkpoint / _MONITOR, self._monitor.state())
