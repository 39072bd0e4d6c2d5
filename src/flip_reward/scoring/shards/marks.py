"""The marks of finished shards, so that a scheduler's second start of one does nothing.

PARENT/shards.json        what is scored, by what, and in how many shards
PARENT/shards/0003/       a shard: a run folder. One without rows has none
PARENT/shards/0003.done   its mark
PARENT/merged/            the run that `flip-reward merge` makes of them
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from flip_reward.data.files import write_atomically
from flip_reward.scoring.folders import SHARD_RUNS
from flip_reward.scoring.manifest import RunConfiguration
from flip_reward.scoring.shards.spec import ShardSpec
from flip_reward.scoring.summary import Summary


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

    def covers(self, configuration: RunConfiguration, limit: int | None) -> bool:
        """Whether it is the mark of a configuration, and of as many rows."""
        enough = self.limit is None or (limit is not None and limit <= self.limit)
        return enough and self.digest == configuration.digest


def shard_folder(parent: Path, shard: ShardSpec) -> Path:
    """Return the run folder of a shard.

    Example:
        >>> shard_folder(Path("runs/rows"), ShardSpec(number=3, count=8)).as_posix()
        'runs/rows/shards/0003'
    """
    return parent / SHARD_RUNS / f"{shard.number:04}"


def mark(folder: Path, shard: ShardSpec, configuration: RunConfiguration, summary: Summary) -> None:
    """Mark a shard as finished."""
    made = ShardMark(
        shard=shard,
        digest=configuration.digest,
        limit=summary.limit,
        rows=summary.rows or 0,
        rejected_rows=summary.rejected_rows,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomically(_mark_file(folder), made.model_dump_json(indent=2).encode() + b"\n")


def read_mark(folder: Path) -> ShardMark | None:
    """Read the mark of a shard; None where it has none that counts."""
    try:
        found = ShardMark.model_validate_json(_mark_file(folder).read_bytes())
    except (OSError, ValueError):
        return None
    return found if folder.is_dir() or not (found.rows or found.rejected_rows) else None


def remove_mark(folder: Path) -> None:
    """Take back a shard's mark: it is worked on again."""
    _mark_file(folder).unlink(missing_ok=True)


def _mark_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.done")
