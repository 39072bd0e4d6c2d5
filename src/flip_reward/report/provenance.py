"""How an evaluation was made, as lists of names and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flip_reward.report.evaluation_files import RewardSummary
from flip_reward.report.payload import Facts
from flip_reward.scoring.manifest import Manifest
from flip_reward.scoring.run_folder import MANIFEST

_APART = ("format", "benchmarks", "rewards", "cells")


def describe_making(
    evaluation: Mapping[str, object], rewards: Sequence[RewardSummary], runs: Sequence[Path]
) -> list[Facts]:
    """Gather what a reader needs to judge an evaluation, and to repeat it.

    Args:
        evaluation: The content of `evaluation.json`.
        rewards: The reward models and their settings.
        runs: The run folders.

    Raises:
        RunError: A run folder has no readable manifest.
    """
    whole = {name: value for name, value in evaluation.items() if name not in _APART}
    facts = [Facts("Evaluation", list(_flatten(whole)))]
    benchmarks = evaluation.get("benchmarks")
    for benchmark in benchmarks if isinstance(benchmarks, list) else []:
        fields = dict(benchmark)
        facts.append(Facts(f"Benchmark {fields.pop('name', '')}", list(_flatten(fields))))
    facts += [Facts(reward.label, list(_flatten(reward.settings))) for reward in rewards]
    return [*(group for group in facts if group.rows), _describe_software(runs)]


def _describe_software(runs: Sequence[Path]) -> Facts:
    sessions = [session for run in runs for session in Manifest.read(run / MANIFEST).sessions]
    if not sessions:
        return Facts("Software", [])
    first, last = (choose(session.started_at for session in sessions) for choose in (min, max))
    values: list[tuple[str, str]] = [
        ("first session", first),
        ("last session", last),
        ("sessions", str(len(sessions))),
    ]
    seen: dict[str, dict[str, None]] = {}  # dicts as ordered sets
    for session in sessions:
        for name, value in {"Python": session.python, "platform": session.platform, **session.versions}.items():
            seen.setdefault(name, {})[value] = None
    return Facts("Software", values + [(name, ", ".join(found)) for name, found in seen.items()])


def _flatten(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name} › {key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or "none"
    else:
        yield name, _spell(value)


def _spell(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
