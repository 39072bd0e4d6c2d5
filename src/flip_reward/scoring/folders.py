"""What a folder holds, and which command goes on with it: for errors about a folder of another command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import orjson

from flip_reward.errors import RunError

MANIFEST = "manifest.json"
EVALUATION, CELLS = "evaluation.json", "cells"
AUDIT, AUDIT_RUNS = "audit.json", "runs"
SHARDS, SHARD_RUNS, MERGED = "shards.json", "shards", "merged"
ROLLOUTS, ROLLOUT_SAMPLES = "rollouts.json", "samples.jsonl"
_KINDS = {"grpo": "train", "inferrer": "tune-inferrer"}
CANDIDATES = "candidates.jsonl"
_OF_BEST_OF_N = ("best.jsonl", CANDIDATES)
_LONGEST_COMMAND = 400


class FolderKind(StrEnum):
    """What wrote a folder, by the name of the command."""

    SCORE = "score"
    BEST_OF_N = "best-of-n"
    RESCORE = "rescore"
    EVALUATE = "evaluate"
    CELL = "a run of an evaluation"
    AUDIT = "audit"
    AUDIT_RUN = "a run of an audit"
    ROLLOUTS = "audit --rollouts"
    SHARDS = "score --shard"
    SHARD = "a shard of a run"
    TRAIN = "train"
    TUNE = "tune-inferrer"

    @property
    def is_run(self) -> bool:
        """Whether it is a run folder; those within an evaluation, an audit or shards count."""
        return self in (FolderKind.SCORE, FolderKind.BEST_OF_N, FolderKind.RESCORE) or self.whole is not None

    @property
    def is_listed(self) -> bool:
        """Whether `flip-reward runs` knows it."""
        return self.is_run or self in (FolderKind.ROLLOUTS, FolderKind.SHARDS)

    @property
    def whole(self) -> FolderKind | None:
        """What it is a run of, where it is a part of an evaluation, an audit or a run in shards."""
        return {
            FolderKind.CELL: FolderKind.EVALUATE,
            FolderKind.AUDIT_RUN: FolderKind.AUDIT,
            FolderKind.SHARD: FolderKind.SHARDS,
        }.get(self)

    @property
    def description(self) -> str:
        """What a folder of this kind is."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    FolderKind.SCORE: "a run of 'flip-reward score'",
    FolderKind.BEST_OF_N: "a run of 'flip-reward best-of-n'",
    FolderKind.RESCORE: "a run of 'flip-reward rescore'",
    FolderKind.EVALUATE: "an evaluation of 'flip-reward evaluate'",
    FolderKind.CELL: "a run of an evaluation",
    FolderKind.AUDIT: "an audit of 'flip-reward audit'",
    FolderKind.AUDIT_RUN: "a run of an audit",
    FolderKind.ROLLOUTS: "what 'flip-reward audit --rollouts' found",
    FolderKind.SHARDS: "a run of 'flip-reward score --shard'",
    FolderKind.SHARD: "a shard of a run",
    FolderKind.TRAIN: "a training of 'flip-reward train'",
    FolderKind.TUNE: "a model of 'flip-reward tune-inferrer'",
}

_NAMED_BY = {
    FolderKind.EVALUATE: EVALUATION,
    FolderKind.AUDIT: AUDIT,
    FolderKind.ROLLOUTS: ROLLOUTS,
    FolderKind.SHARDS: SHARDS,
}
"""The file that tells what a folder without a manifest is."""


def recognise(folder: Path) -> FolderKind | None:
    """Say what a folder holds; None where it is nothing that a command keeps and goes on with."""
    for kind, name in _NAMED_BY.items():
        if (folder / name).is_file():
            return kind
    manifest = _read(folder / MANIFEST)
    if manifest.get("kind") in _KINDS:
        return FolderKind(_KINDS[str(manifest["kind"])])
    if "configuration" not in manifest:
        return None
    place = folder.resolve()
    parts = ((FolderKind.CELL, CELLS), (FolderKind.AUDIT_RUN, AUDIT_RUNS), (FolderKind.SHARD, SHARD_RUNS))
    for part, runs in parts:
        if place.parent.name == runs and part.whole and (place.parent.parent / _NAMED_BY[part.whole]).is_file():
            return part
    if any((folder / name).exists() for name in _OF_BEST_OF_N) or _command(manifest).split()[1:2] == ["best-of-n"]:
        return FolderKind.BEST_OF_N
    if _reads_a_run(manifest):
        return FolderKind.RESCORE
    return FolderKind.SCORE


def last_command(folder: Path) -> str:
    """Return the command line of a folder's last session; empty where it was not kept."""
    kept = [_read(folder / MANIFEST)]
    kept += [{"sessions": [_read(folder / name)]} for name in _NAMED_BY.values()]
    return next(filter(None, map(_command, kept)), "")


def how_to_go_on(folder: Path) -> str:
    """Return the sentence that says which command goes on with a folder; empty where none does."""
    place = folder.resolve()
    kind = recognise(folder)
    if kind is None:
        return ""
    if kind is FolderKind.ROLLOUTS:
        return "'flip-reward report' shows it"
    if kind is FolderKind.SHARDS:
        return f"'flip-reward merge {folder}' makes one run of its shards"
    command = last_command(folder if kind is FolderKind.SHARD or not kind.whole else place.parent.parent)
    if not command.startswith("flip-reward "):
        return f"'flip-reward {kind.whole or kind}' goes on with it"
    return f"'{command[:_LONGEST_COMMAND]}{'...' * (len(command) > _LONGEST_COMMAND)}' goes on with it"


def not_a_run(folder: Path, otherwise: RunError) -> RunError:
    """Make the error for a folder that holds no run: what it is where that is known, else another error."""
    kind = recognise(folder)
    if kind is None or kind.is_run:
        return otherwise
    hint = f"{how_to_go_on(folder)}; give another folder for this"
    return RunError(f"{folder} is {kind.description}, not a run of 'flip-reward score' or 'best-of-n'", hint=hint)


def _read(path: Path) -> dict[str, object]:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _command(manifest: dict[str, object]) -> str:
    match manifest.get("sessions"):
        case [*_, {"command": str(command)}]:
            return command
    return ""


def _reads_a_run(manifest: dict[str, object]) -> bool:
    match manifest.get("configuration"):
        case {"inputs": [{"name": str(name)}]}:
            return name.startswith("run ")
    return False
