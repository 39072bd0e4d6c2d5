"""The manifest of a run folder: what was scored, by what, and in which sessions."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
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
    model_validator,
)

from flip_reward.data.files import write_atomically
from flip_reward.data.grouping import Grouping
from flip_reward.errors import RunError, RunMismatchError
from flip_reward.redact import describe_command
from flip_reward.rewards.options import Settings
from flip_reward.scoring.folders import MANIFEST, FolderKind, how_to_go_on, not_a_run, recognise
from flip_reward.scoring.shards.spec import ShardSpec

FORMAT = 1
"""The layout of a run folder. A folder of another layout is refused."""

_NEW = ("grouping", "shard")
"""Fields of a configuration that earlier versions did not have."""

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
    grouping: Grouping | None = None
    """How rows form groups, where they do."""
    shard: ShardSpec | None = None
    """Which part of the rows, where it is one of several."""

    @model_validator(mode="before")
    @classmethod
    def _forget_limit(cls, found: object) -> object:
        """Earlier versions kept how many rows were read, which changes no record."""
        return {name: found[name] for name in found if name != "limit"} if isinstance(found, dict) else found

    @model_serializer(mode="wrap")
    def _leave_out_new(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write what earlier versions wrote where rows are not grouped or divided, so that their folders resume."""
        fields: dict[str, object] = write(self)
        return {name: value for name, value in fields.items() if value is not None or name not in _NEW}

    @property
    def digest(self) -> str:
        """A hash that names what belongs to this configuration. It is that of earlier versions, without a limit."""
        text = self.model_dump_json().removesuffix("}") + ',"limit":null}'
        return hashlib.sha256(text.encode()).hexdigest()

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
        flat["columns"] = self.columns
        flat["groups"] = str(self.grouping or "each row is one")
        flat["shard"] = str(self.shard or "all rows")
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
    command: str = ""
    """The command line, without secrets, or the function that was called."""
    model: str | None = None
    """The model behind the reward."""

    @classmethod
    def now(cls, *libraries: str) -> Session:
        """Describe this process, with the versions of further libraries."""
        return cls(
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            python=platform.python_version(),
            platform=platform.platform(),
            versions={name: found for name in (*_REPORTED_PACKAGES, *libraries) if (found := _installed(name))},
            command=describe_command(),
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
            nothing = RunError(f"{path.parent} is not a run folder", hint="it has no readable manifest.json")
            raise not_a_run(path.parent, nothing) from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            unknown = RunError(f"{path} cannot be read by this version", hint="give another folder with --run-folder")
            raise not_a_run(path.parent, unknown) from error

    @property
    def last_reading(self) -> Session | None:
        """The last session that says where it reads its inputs; earlier versions did not."""
        return next((session for session in reversed(self.sessions) if session.sources), None)

    def resume_with(self, configuration: RunConfiguration, folder: Path) -> Manifest:
        """Return the manifest with one more session; a RunMismatchError where the configuration differs."""
        if differences := self.configuration.differences(configuration):
            kind = recognise(folder) or FolderKind.SCORE
            go_on = go_on_with_engine(self.configuration.settings, configuration.settings) or how_to_go_on(folder)
            raise RunMismatchError(
                f"{folder} is {kind.description}, of another configuration:\n  " + "\n  ".join(differences),
                hint=f"{go_on}; for this give another folder with --run-folder, or the same options",
            )
        return self.model_copy(update={"sessions": [*self.sessions, Session.now()]})

    def reading(self, sources: Sequence[str], encoding: str | None, model: str | None) -> Manifest:
        """Return the manifest with where the last session reads its inputs, and how, and which model it asks."""
        return self._with_last({"sources": list(sources), "encoding": encoding, "model": model})

    def adapted(self, adaptations: Sequence[str]) -> Manifest:
        """Return the manifest with what the last session had to change about its requests."""
        return self._with_last({"adaptations": list(adaptations)})

    def reached_at(self, servers: dict[str, str]) -> Manifest:
        """Return the manifest with the addresses of the last session's engines."""
        return self._with_last({"servers": servers})

    def _with_last(self, fields: Mapping[str, object]) -> Manifest:
        *earlier, last = self.sessions
        return self.model_copy(update={"sessions": [*earlier, last.model_copy(update=fields)]})

    def write(self, path: Path) -> None:
        """Write the manifest so that it is there whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=2).encode() + b"\n")


def read_reward_settings(run: Path) -> Settings:
    """Read the settings of a run's reward, without those of a policy that wrote the responses."""
    settings = Manifest.read(run / MANIFEST).configuration.settings
    if "calibration" in settings:
        raise RunError(f"the rewards of {run} are calibrated already", hint="score without --calibration first")
    return {name: value for name, value in settings.items() if name != "generate" and not name.startswith("policy_")}


def go_on_with_engine(there: Settings, now: Settings) -> str | None:
    """Say how to go on where the engine of the same model is another one than before: "embedded" names either."""
    engines = {"embedded": "llama.cpp", "openvino": "openvino"}
    for name in there.keys() & now.keys():
        (old, *old_model), (new, *new_model) = (str(settings[name]).split("/") for settings in (there, now))
        if old != new and {old, new} <= engines.keys() and old_model[:1] == new_model[:1]:
            return f"--model {engines[old]}:NAME goes on with it, such as {engines[old]}:embedded"
    return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
