"""What is printed reaches its reader, or is dropped; the work goes on."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import track

from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.streams import unbreakable_output

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes are other things there")
LINES = ["Äpfel, 水果 🍎 and half a pair \ud800", "…" * 200]


@contextmanager
def standing_in(monkeypatch: pytest.MonkeyPatch, number: int, encoding: str = "utf-8") -> Iterator[None]:
    """Let a file be standard output and error."""
    with (
        os.fdopen(os.dup(number), "wb") as binary,
        io.TextIOWrapper(binary, encoding=encoding, line_buffering=True) as stream,
        monkeypatch.context() as patched,
    ):
        patched.setattr(sys, "stdout", stream)
        patched.setattr(sys, "stderr", stream)
        yield


def print_everything() -> None:
    for line in LINES:
        print(line)
        Console(stderr=True).print(line)
    list(track(range(3), console=Console(force_terminal=True)))
    sys.stdout.buffer.write(b"bytes\n")


def print_and_end(status: int) -> None:
    with unbreakable_output():
        print_everything()
        sys.exit(status)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_a_character_without_a_code_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    path = tmp_path / "printed"
    with path.open("wb") as file, standing_in(monkeypatch, file.fileno(), encoding), unbreakable_output():
        print_everything()
    printed = path.read_text(encoding=encoding)
    assert "half a pair ?" in printed
    assert printed.endswith("bytes\n")


def test_a_reader_that_has_gone_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with standing_in(monkeypatch, writer), pytest.raises(SystemExit) as ended:
        print_and_end(0)
    assert ended.value.code == 0
    os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize(("status", "shown"), [(0, ExitCode.DISK_FULL), (3, 3)])
def test_a_full_disk_is_an_error_once_the_work_is_done(
    monkeypatch: pytest.MonkeyPatch, status: int, shown: int
) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        standing_in(monkeypatch, full.fileno()),
        pytest.raises(SystemExit) as ended,
    ):
        print_and_end(status)
    assert ended.value.code == shown


def test_a_pipe_that_makes_nobody_wait_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with standing_in(monkeypatch, writer), unbreakable_output():
                print("x" * 1_000_000)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert len(file.read()) == 1_000_001
    os.waitpid(child, 0)


def test_the_streams_are_there_again_afterwards() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), unbreakable_output():
        raise KeyError
    assert (sys.stdout, sys.stderr) == before
