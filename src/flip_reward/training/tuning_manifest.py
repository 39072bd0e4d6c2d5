"""`manifest.json` of a tuned model: from what it was tuned, on what, how, and what came of it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.errors import RunError, RunMismatchError
from flip_reward.scoring.files import write_atomically
from flip_reward.scoring.manifest import RunConfiguration, Session
from flip_reward.training.inferrer_data import SourceCounts

MANIFEST = "manifest.json"
FORMAT = 1
"""The layout of the folder. A folder of another layout is refused."""

_REPORTED_PACKAGES = ("torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSummary(_Part):
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


class TuningOutcome(_Part):
    """What came of the tuning. Losses are nats a token; those of held-out rows are means over batches."""

    steps: int
    train_loss: float | None
    """Of the last steps that were logged together."""
    held_out_loss_before: float | None
    held_out_loss: float | None


class TuningManifest(_Part):
    """The content of `manifest.json`."""

    format: int = FORMAT
    configuration: RunConfiguration
    """What the result depends on. A folder is resumed only with the same one."""
    sources: list[SourceSummary]
    evaluated_prompts: int
    """So many prompts of evaluations were kept out."""
    tokens_in_an_epoch: int
    sessions: list[Session]
    outcome: TuningOutcome | None = None
    """None until it is finished."""

    @classmethod
    def read(cls, folder: Path) -> TuningManifest | None:
        """Read the manifest of a folder; None where there is none yet.

        Raises:
            RunError: It is damaged, or of another layout.
        """
        path = folder / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise RunError(
                f"{path} cannot be read as the manifest of a tuned model", hint="give another folder with --output"
            ) from error

    def check(self, configuration: RunConfiguration) -> None:
        """Make sure that the folder belongs to a configuration.

        Raises:
            RunMismatchError: It does not.
        """
        if differences := self.configuration.differences(configuration):
            raise RunMismatchError(
                "the folder holds a model tuned in another way:\n  " + "\n  ".join(differences),
                hint="give another folder with --output, or the same recipe",
            )

    def write(self, folder: Path) -> None:
        """Write the manifest so that it is there whole or not at all.

        Raises:
            StorageError: The disk is full or not writable.
        """
        write_atomically(folder / MANIFEST, self.model_dump_json(indent=2).encode() + b"\n")


def describe_session() -> Session:
    """Describe this process, with the libraries that matter to tuning."""
    session = Session.now()
    found = {name: installed for name in _REPORTED_PACKAGES if (installed := _installed(name))}
    return session.model_copy(update={"versions": {**session.versions, **found}})


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
