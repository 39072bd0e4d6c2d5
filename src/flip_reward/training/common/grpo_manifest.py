"""`manifest.json` of a training: from what, on what, how, by which versions, and what came of it."""

from __future__ import annotations

from typing import ClassVar

from flip_reward.training.common.manifest import ManifestPart, TrainingManifest


class GrpoOutcome(ManifestPart):
    """What came of the training. Rewards are means over samples; held-out ones over the scored responses."""

    steps: int
    held_out_reward_before: float | None
    """Before the first step; None where nobody looked then."""
    held_out_reward: float | None
    """After the last step, likewise."""


class GrpoManifest(TrainingManifest):
    """The content of `manifest.json`. It stands in every checkpoint too."""

    subject: ClassVar[str] = "a training"

    kind: str = "grpo"
    recipe: dict[str, object]
    """The whole recipe, with every default, without passwords and keys."""
    grpo: dict[str, object]
    """The whole GRPOConfig, with every default of the installed version."""
    rows: int
    held_out_rows: int
    rows_sha256: str
    outcome: GrpoOutcome | None = None
