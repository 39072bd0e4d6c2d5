"""Rollouts on disk, in the order of their steps, whatever the order of the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from flip_reward.audit.monitor.rollout import Rollout
from flip_reward.errors import StorageError


class StepStore:
    """Keeps rollouts in a temporary file, so that a step can be read at a time.

    Files of a folder come in the order of their names, several processes write a step, and a training that was
    resumed logs steps again: whatever the order, memory holds one step.

    Example:
        >>> with StepStore.open() as store:
        ...     store.add([Rollout(10, "Hi.", "Hello!", 0.5), Rollout(2, "Hi.", "Hey.", None)])
        ...     store.steps()
        [2, 10]
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
        connection.execute(
            "CREATE TABLE rollouts (step INTEGER NOT NULL, held_out INTEGER NOT NULL, content BLOB NOT NULL)"
        )

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[StepStore]:
        """Open an empty store, which is gone when the block ends."""
        try:
            with TemporaryDirectory(prefix="flip-reward-") as folder:
                connection = sqlite3.connect(Path(folder) / "rollouts.sqlite3", isolation_level=None)
                try:
                    yield cls(connection)
                finally:
                    connection.close()
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"cannot keep a copy of the rollouts: {error}", hint="set TMPDIR to a disk with room"
            ) from error

    def add(self, rollouts: Iterable[Rollout], *, held_out: bool = False) -> None:
        """Add rollouts of any steps, or responses to held-out prompts."""
        rows = ((one.step, held_out, orjson.dumps(asdict(one))) for one in rollouts)
        self._connection.executemany("INSERT INTO rollouts VALUES (?, ?, ?)", rows)

    def steps(self) -> list[int]:
        """Return the steps in order."""
        self._connection.execute("CREATE INDEX IF NOT EXISTS by_step ON rollouts (step, held_out)")
        return [step for (step,) in self._connection.execute("SELECT DISTINCT step FROM rollouts ORDER BY step")]

    def read(self, step: int, *, held_out: bool = False) -> list[Rollout]:
        """Read the rollouts of a step, in the order in which they were added."""
        query = "SELECT content FROM rollouts WHERE step = ? AND held_out = ? ORDER BY rowid"
        rows = self._connection.execute(query, (step, held_out))
        return [Rollout(**orjson.loads(content)) for (content,) in rows]
