"""What a folder holds, and which command goes on with it: for errors about a folder of another command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import orjson

from flip_reward.errors import RunError

MANIFEST = "manifest.json"
EVALUATION, CELLS = "evaluation.json", "cells"
_KINDS = {"grpo": "train", "inferrer": "tune-inferrer"}
_OF_BEST_OF_N = ("best.jsonl", "candidates.jsonl")
_LONGEST_COMMAND = 400


class FolderKind(StrEnum):
    """What wrote a folder, by the name of the command."""

    SCORE = "score"
    BEST_OF_N = "best-of-n"
    RESCORE = "rescore"
    EVALUATE = "evaluate"
    CELL = "a run of an evaluation"
    TRAIN = "train"
    TUNE = "tune-inferrer"

    @property
    def is_run(self) -> bool:
        """Whether it is a run folder; those of an evaluation count."""
        return self in (FolderKind.SCORE, FolderKind.BEST_OF_N, FolderKind.RESCORE, FolderKind.CELL)

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
    FolderKind.TRAIN: "a training of 'flip-reward train'",
    FolderKind.TUNE: "a model of 'flip-reward tune-inferrer'",
}


def recognise(folder: Path) -> FolderKind | None:
    """Say what a folder holds; None where it is nothing that a command keeps and goes on with."""
    if (folder / EVALUATION).is_file():
        return FolderKind.EVALUATE
    manifest = _read(folder / MANIFEST)
    if manifest.get("kind") in _KINDS:
        return FolderKind(_KINDS[str(manifest["kind"])])
    if "configuration" not in manifest:
        return None
    place = folder.resolve()
    if place.parent.name == CELLS and (place.parent.parent / EVALUATION).is_file():
        return FolderKind.CELL
    if any((folder / name).exists() for name in _OF_BEST_OF_N) or _command(manifest).split()[1:2] == ["best-of-n"]:
        return FolderKind.BEST_OF_N
    if _reads_a_run(manifest):
        return FolderKind.RESCORE
    return FolderKind.SCORE


def last_command(folder: Path) -> str:
    """Return the command line of a folder's last session; empty where it was not kept."""
    return _command(_read(folder / MANIFEST)) or _command({"sessions": [_read(folder / EVALUATION)]})


def how_to_go_on(folder: Path) -> str:
    """Return the sentence that says which command goes on with a folder; empty where none does."""
    place = folder.resolve()
    kind = recognise(folder)
    if kind is None:
        return ""
    command = last_command(place.parent.parent if kind is FolderKind.CELL else folder)
    if not command.startswith("flip-reward "):
        name = FolderKind.EVALUATE if kind is FolderKind.CELL else kind
        return f"'flip-reward {name}' goes on with it"
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
