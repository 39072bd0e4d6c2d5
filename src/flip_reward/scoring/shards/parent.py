"""The folder above the shards of a run: what they have in common, and which of them are done.

PARENT/shards.json        what is scored, by what, and in how many shards
PARENT/shards/0003/       a shard: a run folder. One without rows has none
PARENT/shards/0003.done   its mark: it is done, so that a scheduler's second start of it does nothing
PARENT/merged/            the run that `flip-reward merge` makes of them
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from flip_reward.scoring.folders import SHARD_RUNS
from flip_reward.scoring.manifest import RunConfiguration
from flip_reward.scoring.shards.spec import ShardSpec


class Shards(BaseModel):
    """The content of `shards.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    count: int
    configuration: RunConfiguration
    """Of the whole run."""
    sources: list[str] = []
    """What the user named as inputs; see `Session`."""
    encoding: str | None = None
    model: str | None = None
    command: str = ""
    """The command line of the shard that began first."""


class ShardMark(BaseModel):
    """The content of a shard's mark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: ShardSpec
    digest: str
    """Of the shard's configuration."""
    limit: int | None
    """How many rows of the whole input it was told to read at most."""
    rows: int
    """How many groups it has scored."""
    rejected_rows: int
    finished_at: str


def shard_folder(parent: Path, shard: ShardSpec) -> Path:
    """Return the run folder of a shard.

    Example:
        >>> shard_folder(Path("runs/rows"), ShardSpec(number=3, count=8)).as_posix()
        'runs/rows/shards/0003'
    """
    return parent / SHARD_RUNS / f"{shard.number:04}"
