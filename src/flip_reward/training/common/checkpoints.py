"""Checkpoints of a training: which of them are whole, so that it can go on from them."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

FOLDER = "checkpoints"
_WHOLE = "whole"
_NAME = re.compile(r"checkpoint-(\d+)")


def mark_whole(checkpoint: Path) -> None:
    """Say that everything of a checkpoint is written."""
    (checkpoint / _WHOLE).touch()


def drop_partial(folder: Path) -> None:
    """Remove checkpoints that were being written when their process ended."""
    for checkpoint in _list(folder):
        if not (checkpoint / _WHOLE).is_file():
            shutil.rmtree(checkpoint, ignore_errors=True)


def drop_oldest(folder: Path, keep: int, *, best: Path | None = None) -> None:
    """Remove all checkpoints but so many: the last one, the best one, and the newest of the others."""
    newest_first = sorted(_list(folder), key=_step, reverse=True)
    needed = [checkpoint for checkpoint in newest_first if checkpoint in (newest_first[0], best)]
    others = [checkpoint for checkpoint in newest_first if checkpoint not in needed]
    for checkpoint in others[max(0, keep - len(needed)) :]:
        with suppress(OSError):  # first, so that nothing partial counts after a kill
            (checkpoint / _WHOLE).unlink(missing_ok=True)
        shutil.rmtree(checkpoint, ignore_errors=True)


def find_last(folder: Path) -> Path | None:
    """Return the last whole checkpoint."""
    whole = [checkpoint for checkpoint in _list(folder) if (checkpoint / _WHOLE).is_file()]
    return max(whole, key=_step, default=None)


def _list(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if entry.is_dir() and _NAME.fullmatch(entry.name)]


def _step(checkpoint: Path) -> int:
    found = _NAME.fullmatch(checkpoint.name)
    return int(found.group(1)) if found else -1
