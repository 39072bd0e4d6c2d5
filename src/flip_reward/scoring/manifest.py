"""The manifest of a run folder: what was scored, by what, and in which sessions."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from flip_reward.data.files import write_atomically
from flip_reward.data.grouping import Grouping
from flip_reward.errors import RunError, RunMismatchError

FORMAT = 1
"""The layout of a run folder. A folder of another layout is refused."""

_REPORTED_PACKAGES = ("flip-reward", "aiohttp", "orjson", "pydantic", "xllamacpp")


class InputIdentity(BaseModel):
    """One input of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str | None
    """A hash of the content; None where there is none to take, as for standard input."""


class RunConfiguration(BaseModel):
    """What a run's records depend on. A folder is resumed only with the same one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: dict[str, str | int | float | bool | None]
    """The reward's settings: templates and their hashes, target, similarity, sampling, engine."""
    inputs: list[InputIdentity]
    columns: dict[str, str] = {}
    limit: int | None = None
    grouping: Grouping | None = None
    """How rows form groups, where they do."""

    @model_serializer(mode="wrap")
    def _leave_out_grouping(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write what earlier versions wrote where rows are groups of their own, so that their folders are resumed."""
        fields: dict[str, object] = write(self)
        if self.grouping is None:
            del fields["grouping"]
        return fields

    @property
    def resumable(self) -> bool:
        """Whether every input can be recognised when it is read again."""
        return all(source.fingerprint is not None for source in self.inputs)

    def differences(self, other: RunConfiguration) -> list[str]:
        """Describe, a line each, where another configuration differs from this one."""
        if not (self.resumable and other.resumable):
            return ["an input cannot be recognised (standard input), so the run cannot be resumed"]
        mine, theirs = self._flat(), other._flat()
        return [
            f"{name}: {mine.get(name)!r} there, {theirs.get(name)!r} now"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]

    def _flat(self) -> dict[str, object]:
        flat: dict[str, object] = dict(self.settings)
        flat["columns"], flat["limit"] = self.columns, self.limit
        flat["groups"] = str(self.grouping or "each row is one")
        for number, source in enumerate(self.inputs, start=1):
            flat[f"input {number}"] = source.name
            flat[f"input {number} content"] = source.fingerprint
        return flat


class Session(BaseModel):
    """One start of the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    started_at: str
    python: str
    platform: str
    versions: dict[str, str]
    adaptations: list[str] = []
    """How requests were changed because a model refuses them as they were."""
    servers: dict[str, str] = {}
    """The addresses of the engines, by their names in the settings, where anything was asked of a server."""
    sources: list[str] = []
    """What the user named as inputs, files by their absolute paths: where `reopen_inputs` looks for the rows."""
    encoding: str | None = None
    """How their texts are encoded, where the user said so."""

    @classmethod
    def now(cls, *libraries: str) -> Session:
        """Describe this process, with the versions of further libraries."""
        return cls(
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            python=platform.python_version(),
            platform=platform.platform(),
            versions={name: found for name in (*_REPORTED_PACKAGES, *libraries) if (found := _installed(name))},
        )


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    configuration: RunConfiguration
    sessions: list[Session] = Field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest; a RunError where there is none, or one of another layout, or a damaged one."""
        try:
            text = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path.parent} is not a run folder", hint="it has no readable manifest.json") from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise RunError(
                f"{path} cannot be read by this version", hint="give another folder with --run-folder"
            ) from error

    def resume_with(self, configuration: RunConfiguration) -> Manifest:
        """Return the manifest with one more session; a RunMismatchError where the configuration differs."""
        if differences := self.configuration.differences(configuration):
            raise RunMismatchError(
                "the run folder holds a run of another configuration:\n  " + "\n  ".join(differences),
                hint="give another folder with --run-folder, or the same options",
            )
        return self.model_copy(update={"sessions": [*self.sessions, Session.now()]})

    def reading(self, sources: Sequence[str], encoding: str | None) -> Manifest:
        """Return the manifest with where the last session reads its inputs, and how."""
        *earlier, last = self.sessions
        reading = last.model_copy(update={"sources": list(sources), "encoding": encoding})
        return self.model_copy(update={"sessions": [*earlier, reading]})

    def adapted(self, adaptations: Sequence[str]) -> Manifest:
        """Return the manifest with what the last session had to change about its requests."""
        *earlier, last = self.sessions
        return self.model_copy(
            update={"sessions": [*earlier, last.model_copy(update={"adaptations": list(adaptations)})]}
        )

    def reached_at(self, servers: dict[str, str]) -> Manifest:
        """Return the manifest with the addresses of the last session's engines."""
        *earlier, last = self.sessions
        return self.model_copy(update={"sessions": [*earlier, last.model_copy(update={"servers": servers})]})

    def write(self, path: Path) -> None:
        """Write the manifest so that it is there whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=2).encode() + b"\n")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
