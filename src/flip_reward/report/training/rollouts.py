"""What was found in the logs of any trainer -> the page of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flip_reward.audit.monitor.rollout import Rollout
from flip_reward.audit.rollouts.results import RolloutAudit, read_kept_samples, read_rollouts
from flip_reward.data.files import write_atomically
from flip_reward.report import REPORT
from flip_reward.report.document import MAX_BYTES
from flip_reward.report.facts import Facts, list_facts
from flip_reward.report.training.folder import Split
from flip_reward.report.training.page import write_training_page
from flip_reward.report.training.payload import PageHead, Sample, Shown, WatchedTraining


def build_rollouts_page(folder: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write `report.html` into a folder of `flip-reward audit --rollouts`, and return its path."""
    audit = read_rollouts(folder)
    samples: dict[int, list[Rollout]] = {}
    for one in read_kept_samples(folder):
        samples.setdefault(one.step, []).append(one)
    name = folder.resolve().name
    run = WatchedTraining(
        name,
        _list_metrics(audit),
        {(Split.TRAIN, step): len(found) for step, found in samples.items()},
        lambda _, step: _show(samples[step]),
        audit.alarms,
    )
    kept = sum(map(len, samples.values()))
    head = PageHead(name, "flip-reward audit of rollouts", made=[_describe(audit, kept)])
    path = folder / REPORT
    write_atomically(path, write_training_page(head, [run], Shown(), max_bytes=max_bytes))
    return path


def _list_metrics(audit: RolloutAudit) -> Mapping[str, list[tuple[int, float]]]:
    """Name figures as the metrics of a training are named."""
    metrics: dict[str, list[tuple[int, float]]] = {}
    for one in audit.steps:
        figures = {"reward" if name == "reward" else f"audit/{name}": value for name, value in one.figures.items()}
        for name, value in (figures | {f"others/{name}": value for name, value in one.others.items()}).items():
            metrics.setdefault(name, []).append((one.step, value))
    return metrics


def _show(rollouts: Sequence[Rollout]) -> list[Sample]:
    return [Sample.of_rollout(one) for one in rollouts]


def _describe(audit: RolloutAudit, kept: int) -> Facts:
    logs = {
        f"log {log.source}": ", ".join(
            f"{ours} = {theirs or 'found elsewhere'}"
            for ours, theirs in (("step", log.step), ("prompt", log.prompt), ("response", log.response))
        )
        + f", trained on {' + '.join(log.reward)}"
        for log in audit.logs
    }
    values = {
        "verdict": audit.verdict,
        **logs,
        "not trained on": ", ".join(audit.not_trained_on) or None,
        "samples": f"{audit.samples:,}, of which {kept:,} are kept to look at",
        "without a reward": f"{audit.without_reward:,}",
        "rows that could not be read": f"{audit.rejected:,}",
    }
    return list_facts("Logs", values)
