"""Run the command: in this process, or as the installed script where a process is the point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

from typer.testing import CliRunner

from flip_reward.cli.app import main
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records_in_input_order

COMMAND = Path(sys.executable).with_name("flip-reward")


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The user's environment without settings of this machine, and with a cache of the test's own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "FLIP_"))}
    return {**inherited, "FLIP_REWARD_CACHE": str(folder / "cache.sqlite3"), "COLUMNS": "120", **variables}


def run(
    folder: Path, *arguments: str, stdin: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, in this process. What a user would see as a traceback is raised."""
    status: int | str | None = 0
    with (
        patch.dict(os.environ, environment(folder, **variables), clear=True),
        patch.object(sys, "argv", [COMMAND.name, *arguments]),
        chdir(folder),
        CliRunner().isolation(input=stdin) as (output, errors, _),
    ):
        try:
            main(arguments)
        except SystemExit as exit_:
            status = exit_.code
        sys.stdout.flush()
        sys.stderr.flush()
        said = output.getvalue().decode(), errors.getvalue().decode()
    assert isinstance(status, int), status
    return subprocess.CompletedProcess(arguments, status, *said)


def run_process(
    folder: Path, *arguments: str, stdin: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the installed script in a folder and wait for it. It never ends in a traceback."""
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


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start the installed script in a folder."""
    return subprocess.Popen(
        [str(COMMAND), *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path) -> list[Record]:
    """Read the records of a run in input order."""
    return list(read_records_in_input_order(folder))
