"""The folder above the shards of a run: what they have in common, and how far each of them is."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.data.files import storage_error, write_atomically
from flip_reward.errors import RunError, RunMismatchError
from flip_reward.scoring.folders import MANIFEST, SHARD_RUNS, SHARDS, FolderKind, how_to_go_on, recognise
from flip_reward.scoring.manifest import RunConfiguration
from flip_reward.scoring.run_folder import check_local, locked
from flip_reward.scoring.shards.marks import ShardMark, read_mark, shard_folder
from flip_reward.scoring.shards.spec import ShardSpec

_PATIENCE_SECONDS = 60.0
"""All shards may start at once; each looks at the folder for a moment."""


class Shards(BaseModel):
    """The content of `shards.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    count: int
    configuration: RunConfiguration
    """Of the whole run."""
    sources: list[str]
    """What the user named as inputs; see `Session`."""
    encoding: str | None
    model: str | None
    command: str
    """The command line of the shard that began first."""

    @classmethod
    def read(cls, parent: Path) -> Shards:
        """Read what a run in shards is; a RunError where a folder holds none."""
        check_local(parent)
        try:
            return cls.model_validate_json((parent / SHARDS).read_bytes())
        except OSError as error:
            nothing = RunError(f"{parent} holds no shards", hint=f"it has no readable {SHARDS}")
            raise _other_folder(parent, nothing) from error
        except ValidationError as error:
            hint = "give another folder with --run-folder"
            raise RunError(f"{parent / SHARDS} cannot be read by this version", hint=hint) from error

    def configure(self, shard: ShardSpec) -> RunConfiguration:
        """Return the configuration of a shard."""
        return self.configuration.model_copy(update={"shard": shard})

    def enter(self, parent: Path) -> None:
        """Make the folder above the shards; a RunMismatchError where shards of another run have begun there."""
        check_local(parent)
        if recognise(parent) not in (None, FolderKind.SHARDS):
            raise _other_folder(parent, RunError(f"{parent} is no folder for shards"))
        try:
            (parent / SHARD_RUNS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(parent, error) from error
        with locked(parent, wait_seconds=_PATIENCE_SECONDS):
            known = Shards.read(parent) if (parent / SHARDS).exists() else None
            differences = [] if known is None else known.differences(self)
            if known and differences and _has_begun(parent):
                go_on = how_to_go_on(parent)
                if known.count != self.count and len(differences) == 1:
                    go_on = (
                        f"--shard I/{known.count} goes on with it, also for a task of an array that is queued again"
                    )
                raise RunMismatchError(
                    f"{parent} holds shards of another run:\n  " + "\n  ".join(differences),
                    hint=f"{go_on}; for this give another folder with --run-folder",
                )
            if known is None or differences:
                write_atomically(parent / SHARDS, self.model_dump_json(indent=2).encode() + b"\n")

    def differences(self, other: Shards) -> list[str]:
        """Describe, a line each, where another run in shards differs from this one."""
        count = [f"shards: {self.count} there, {other.count} now"] if self.count != other.count else []
        return count + self.configuration.differences(other.configuration)

    def all(self) -> list[ShardSpec]:
        """List the shards."""
        return [ShardSpec(number=number, count=self.count) for number in range(1, self.count + 1)]

    def find_marks(self, parent: Path, limit: int | None = 0) -> dict[int, ShardMark]:
        """Read the marks of the finished shards, by their numbers; of those that cover a limit on rows."""
        found = ((shard, read_mark(shard_folder(parent, shard))) for shard in self.all())
        return {shard.number: mark for shard, mark in found if mark and mark.covers(self.configure(shard), limit)}

    def name_command(self, parent: Path, shard: ShardSpec, like: ShardMark | None = None) -> str:
        """Write the command line that goes on with a shard, with the limit of another; empty where none is known."""
        kept, words = [], iter(shlex.split(self.command))
        given = {"--shard": str(shard), "--run-folder": str(parent)}
        if like is not None:
            given["--limit"] = "" if like.limit is None else str(like.limit)
        for word in words:
            if word in given:
                next(words, None)
            elif word.partition("=")[0] not in given:
                kept.append(word)
        kept += [word for name, value in given.items() if value for word in (name, value)]
        return shlex.join(kept) if kept[0] == "flip-reward" else ""


def is_finished(parent: Path, shard: ShardSpec, limit: int | None) -> bool:
    """Whether a shard has a mark that covers a limit on rows."""
    mark = read_mark(shard_folder(parent, shard))
    if mark is None or not (parent / SHARDS).exists():
        return False
    return mark.covers(Shards.read(parent).configure(shard), limit)


def _has_begun(parent: Path) -> bool:
    return any(path.suffix == ".done" or (path / MANIFEST).exists() for path in (parent / SHARD_RUNS).iterdir())


def _other_folder(parent: Path, otherwise: RunError) -> RunError:
    kind = recognise(parent)
    if kind is None:
        return otherwise
    hint = f"{how_to_go_on(parent)}; shards need a folder of their own"
    return RunError(f"{parent} is {kind.description}, and holds no shards", hint=hint)
