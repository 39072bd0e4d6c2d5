"""`flip-reward score` run to its end: how long it took, and what memory its processes had on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = Path(sys.executable).with_name("flip-reward")
SCRIPTED = ("--model", "scripted")
"""An engine that answers at once, so that everything measured is ours."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Memory:
    """The private memory of a command's processes at one moment, in MB.

    Attributes:
        recorded: How many bytes of records there were.
        driver: Of the command itself.
        largest_actor: Of the largest actor of Ray.
    """

    recorded: int
    driver: float
    largest_actor: float


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended.

    Attributes:
        seconds: From its start to its end.
        cpu_seconds: What the command's own process computed.
        peak_megabytes: The most resident memory of the command's own process.
        memory: Its processes as long as there were actors, where they were watched.
    """

    seconds: float
    cpu_seconds: float
    peak_megabytes: float
    memory: list[Memory] = field(default_factory=list)

    def at(self, share: float) -> Memory:
        """Return the memory when a share of all bytes of records was written."""
        whole = self.memory[-1].recorded
        return next(moment for moment in self.memory if moment.recorded >= share * whole)


def run_command(*arguments: str | Path, watch: Path | None = None) -> Ran:
    """Run the command, with its words on standard error; watch its processes where a file of records is named."""
    started = time.perf_counter()
    process = subprocess.Popen([COMMAND, *arguments], stdout=subprocess.DEVNULL)
    memory: list[Memory] = []
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG if watch else 0)
        if ended:
            break
        if watch and watch.exists() and (moment := _measure(process.pid, watch)):
            memory.append(moment)
        time.sleep(_POLL_SECONDS)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"'flip-reward {' '.join(map(str, arguments))}' ended with status {process.returncode}")
    return Ran(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, memory)


@contextmanager
def instant_server() -> Iterator[str]:
    """Run a server that answers every request at once, and give its address."""
    program = Path(__file__).with_name("instant_server.py")
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.kill()


def _measure(pid: int, records: Path) -> Memory | None:
    """Measure the command and its actors; None where it has none, or one that is just ending."""
    import psutil

    command = psutil.Process(pid)
    try:
        names = {process: " ".join(process.cmdline()) for process in command.children(recursive=True)}
        actors = [process for process, name in names.items() if name.startswith("ray::") and "IDLE" not in name]
        sizes = [process.memory_full_info().uss / 1e6 for process in actors]
        driver = command.memory_full_info().uss / 1e6
    except psutil.NoSuchProcess:
        return None
    return Memory(records.stat().st_size, driver, max(sizes)) if sizes else None
