"""Run the installed command as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records_in_input_order

COMMAND = Path(sys.executable).with_name("flip-reward")


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The user's environment without settings of this machine, and with a cache of the test's own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "FLIP_"))}
    return {**inherited, "FLIP_REWARD_CACHE": str(folder / "cache.sqlite3"), "COLUMNS": "120", **variables}


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start the command in a folder."""
    return subprocess.Popen(
        [str(COMMAND), *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    folder: Path, *arguments: str, stdin: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder and wait for it. It never ends in a traceback."""
    finished = subprocess.run(
        [str(COMMAND), *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path) -> list[Record]:
    """Read the records of a run in input order."""
    return list(read_records_in_input_order(folder))
