"""The adapter that comes with this package and makes its default model infer instructions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from flip_reward.core.cautions import ReliabilityLimits
from flip_reward.errors import DataError

FOLDER = Path(__file__).parent / "adapters"
"""Holds the adapter as a GGUF file, which all engines in this process read, and its MODEL_CARD.md."""

MAX_BYTES = 10_000_000
"""The largest adapter that may come with the package."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a model was tuned to infer."""

    template: str | None
    """Also its completion prompt; None where the adapter does not say."""
    reliability_limits: ReliabilityLimits | None = None
    """Where they were measured."""


@dataclass(frozen=True, slots=True)
class ShippedAdapter:
    """An adapter whose bytes are known. Its name is that of the file without ".gguf"."""

    file_name: str
    sha256: str
    tuning: Tuning


SHIPPED: ShippedAdapter | None = ShippedAdapter(
    "infer-en-1.gguf",
    "f63eb26ee5678e503e95a3c67be8327ed5e09a8656449b6bec4d733a0e9734a5",
    Tuning("tuned", ReliabilityLimits(least_words=4, most_code=0.8, least_english=0.1)),
)
"""What "embedded" adds to SmolLM2-135M; with None "embedded" is the plain model.

How the limits were measured: docs/results/tuned-inferrer.md.
"""


def locate_shipped(adapter: ShippedAdapter | None = SHIPPED, folder: Path = FOLDER) -> Path | None:
    """Find the adapter and check its bytes."""
    if adapter is None:
        return None
    path = folder / adapter.file_name
    remedy = "install flip-reward again, or use the plain model, --model smollm2-135m"
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint=remedy) from error
    if sha256 != adapter.sha256:
        raise DataError(f"{path} is damaged: its SHA-256 is {sha256}, not {adapter.sha256}", hint=remedy)
    return path
