"""`manifest.json` of a training: from what, on what, how, by which versions, and what came of it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.errors import RunError, RunMismatchError
from flip_reward.scoring.files import write_atomically
from flip_reward.scoring.manifest import RunConfiguration, Session

MANIFEST = "manifest.json"
FORMAT = 1
"""The layout of the folder. A folder of another layout is refused."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GrpoOutcome(_Part):
    """What came of the training. Rewards are means over samples; held-out ones over the scored responses."""

    steps: int
    held_out_reward_before: float | None
    held_out_reward: float | None


class GrpoManifest(_Part):
    """The content of `manifest.json`. It stands in every checkpoint too."""

    kind: str = "grpo"
    format: int = FORMAT
    configuration: RunConfiguration
    """What the result depends on. A folder is resumed only with the same one."""
    recipe: dict[str, object]
    """The whole recipe, with every default."""
    grpo: dict[str, object]
    """The whole GRPOConfig, with every default of the installed version."""
    rows: int
    held_out_rows: int
    rows_sha256: str
    sessions: list[Session]
    outcome: GrpoOutcome | None = None

    @classmethod
    def read(cls, folder: Path) -> GrpoManifest | None:
        """Read the manifest of a folder; None where there is none yet.

        Raises:
            RunError: It is damaged, of another layout, or no training's.
        """
        path = folder / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise RunError(
                f"{path} cannot be read as the manifest of a training", hint="give another folder with --output"
            ) from error

    def check(self, configuration: RunConfiguration) -> None:
        """Make sure that the folder belongs to a configuration.

        Raises:
            RunMismatchError: It does not.
        """
        if differences := self.configuration.differences(configuration):
            raise RunMismatchError(
                "the folder holds another training:\n  " + "\n  ".join(differences),
                hint="give another folder with --output, or the same recipe",
            )

    def write(self, folder: Path) -> None:
        """Write the manifest so that it is there whole or not at all.

        Raises:
            StorageError: The disk is full or not writable.
        """
        write_atomically(folder / MANIFEST, self.model_dump_json(indent=2).encode() + b"\n")
