"""`inferrer.json`: which template the model in a folder was tuned with."""

from __future__ import annotations

import json
from pathlib import Path

from flip_reward.engines.lora.adapter import GGUF_FILE, GgufAdapter
from flip_reward.engines.lora.shipped import Tuning
from flip_reward.errors import DataError

INFERRER = "inferrer.json"


def read_inferrer_template(folder: Path) -> str | None:
    """Return the template that the model in a folder was tuned with; None where `inferrer.json` is not there."""
    path = folder / INFERRER
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_bytes())["frame"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: it is damaged") from error


def describe_inferrer(template: str) -> bytes:
    """Return what `inferrer.json` holds for a model that was tuned with a template."""
    return json.dumps({"frame": template}).encode() + b"\n"


def find_tuning_in(folder: Path) -> Tuning | None:
    """Return how the model in a folder was tuned, by this file or by its adapter."""
    if template := read_inferrer_template(folder):
        return Tuning(template)
    path = folder / GGUF_FILE
    return Tuning(GgufAdapter.read(path).template) if path.is_file() else None
