"""`TrainingManifest`: what the manifests of everything that is trained share."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.data.files import write_atomically
from flip_reward.errors import RunError, RunMismatchError
from flip_reward.scoring.manifest import RunConfiguration, Session
from flip_reward.training.common.checkpoints import FOLDER, find_last

MANIFEST = "manifest.json"
FORMAT = 1
"""The layout of the folder. A folder of another layout is refused."""

_REPORTED_PACKAGES = ("torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets")


class ManifestPart(BaseModel):
    """A part of a manifest, or all of it: nothing unknown, nothing changed later."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingManifest(ManifestPart):
    """The content of `manifest.json`: from what, on what, how, by which versions."""

    subject: ClassVar[str]
    """What the folder holds, for errors."""

    format: int = FORMAT
    configuration: RunConfiguration
    """What the result depends on. A folder is resumed only with the same one."""
    sessions: list[Session]
    outcome: ManifestPart | None = None
    """None until it is finished."""

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the manifest of a folder; None where there is none yet.

        Raises:
            RunError: It is damaged, of another layout, or that of something else.
        """
        path = folder / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise RunError(
                f"{path} cannot be read as the manifest of {cls.subject}", hint="give another folder with --output"
            ) from error

    @classmethod
    def read_for(cls, folder: Path, configuration: RunConfiguration) -> Self | None:
        """Read the manifest of a folder where a configuration is to go on; None where it begins.

        Without a checkpoint nothing was learned yet, and another recipe may begin anew.

        Args:
            folder: The folder.
            configuration: What is to go on.

        Raises:
            RunError: See `read`.
            RunMismatchError: The folder belongs to another configuration.
        """
        manifest = cls.read(folder)
        if manifest is None:
            return None
        learned = find_last(folder / FOLDER) is not None or manifest.outcome is not None
        if not learned and manifest.configuration.differences(configuration):
            return None
        manifest.check(configuration)
        return manifest

    def check(self, configuration: RunConfiguration) -> None:
        """Make sure that the folder belongs to a configuration.

        Raises:
            RunMismatchError: It does not.
        """
        if differences := self.configuration.differences(configuration):
            raise RunMismatchError(
                f"the folder holds {self.subject} of another recipe:\n  " + "\n  ".join(differences),
                hint="give another folder with --output, or the same recipe",
            )

    def write(self, folder: Path) -> None:
        """Write the manifest so that it is there whole or not at all.

        Raises:
            StorageError: The disk is full or not writable.
        """
        write_atomically(folder / MANIFEST, self.model_dump_json(indent=2).encode() + b"\n")


def describe_session() -> Session:
    """Describe this process, with the libraries that matter to training."""
    session = Session.now()
    found = {name: installed for name in _REPORTED_PACKAGES if (installed := _installed(name))}
    return session.model_copy(update={"versions": {**session.versions, **found}})


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
