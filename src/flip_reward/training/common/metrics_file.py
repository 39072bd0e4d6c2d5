"""`metrics.jsonl` of a tuning: a line for every loss that was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from flip_reward.data.files import write_atomically

METRICS = "metrics.jsonl"

_NAMES = {
    "loss": "train_loss",
    "eval_loss": "held_out_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "contrast_loss": "contrast_loss",
    "ranked_right": "ranked_right",
}


def write_metrics(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write what a trainer logged; what an earlier session logged is part of it.

    Raises:
        StorageError: The disk is full or not writable.
    """
    lines = []
    for entry in history:
        line = {ours: entry[theirs] for theirs, ours in _NAMES.items() if theirs in entry}
        if line:
            lines.append(json.dumps({"step": entry["step"], **line}) + "\n")
    write_atomically(folder / METRICS, "".join(lines).encode())
