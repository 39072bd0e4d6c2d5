"""`manifest.json` of a tuned model: from what it was tuned, on what, how, and what came of it."""

from __future__ import annotations

from typing import ClassVar

from flip_reward.training.common.manifest import ManifestPart, TrainingManifest
from flip_reward.training.inferrer.data import SourceCounts


class SourceSummary(ManifestPart):
    """What became of the rows of one source."""

    name: str
    rows: int
    removed: dict[str, int]
    held_out: int
    kept: int
    seen_in_an_epoch: int

    @classmethod
    def of(cls, counts: SourceCounts) -> SourceSummary:
        """Sum up the counts of a source."""
        removed = {reason.value: count for reason, count in sorted(counts.removed.items())}
        return cls(
            name=counts.name,
            rows=counts.rows,
            removed=removed,
            held_out=counts.held_out,
            kept=counts.kept,
            seen_in_an_epoch=counts.seen,
        )


class TuningOutcome(ManifestPart):
    """What came of the tuning. Losses are nats a token; those of held-out rows are means over batches."""

    steps: int
    train_loss: float | None
    """Of the last steps that were logged together."""
    held_out_loss_before: float | None
    held_out_loss: float | None


class TuningManifest(TrainingManifest):
    """The content of `manifest.json`."""

    subject: ClassVar[str] = "a tuned model"

    sources: list[SourceSummary]
    evaluated_prompts: int
    """So many prompts of evaluations were kept out."""
    tokens_in_an_epoch: int
    outcome: TuningOutcome | None = None
