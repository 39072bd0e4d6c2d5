"""Rows with `--ray` and 1 or 2 workers beside one process, and whether memory stays flat over a million of them.

- What a row costs: with the scripted engine, which answers at once, and with a server that does. A short and a long
  run are told apart, so that start and end of Ray, a figure of their own, do not count. Medians of several rounds in
  which all take turns. Driver, actors and server share the machine's cores, so two workers on two cores say what the
  driver can take, and not how engines scale.
- Memory: what the command and its largest actor have for themselves after a tenth, a half and all of the rows. Ray's
  object store is shared memory of a fixed size, and not in it.

Run `python bench/ray_rows.py` (needs the extra `ray` and bench/requirements.txt); the variable FLIP_BENCH_ROWS sets
another number of rows for the memory.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from commands import SCRIPTED, instant_server, run_command
from figures import Figure, report
from million_rows import write_rows

ROWS = int(os.environ.get("FLIP_BENCH_ROWS", "1000000"))
SHORT, LONG = 2_000, 42_000
ROUNDS = 3
WORKERS = (1, 2)


class Cost(NamedTuple):
    """What rows take, in seconds."""

    start: float
    row: float


def ray_options(workers: int) -> tuple[str, ...]:
    """Return the options for a number of workers; none for one process."""
    return ("--ray=local", "--ray-workers", str(workers)) if workers else ()


def measure_costs(folder: Path, engine: tuple[str, ...]) -> dict[int, Cost]:
    """Measure what rows take by the number of workers, 0 for one process."""
    seconds: dict[tuple[int, int], list[float]] = {}
    for _ in range(ROUNDS):
        for workers in (0, *WORKERS):
            for rows in (SHORT, LONG):
                with tempfile.TemporaryDirectory() as run:
                    options = (*engine, *ray_options(workers), "--run-folder", run)
                    ran = run_command("score", folder / f"{rows}.jsonl", *options)
                seconds.setdefault((workers, rows), []).append(ran.seconds)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    costs = {}
    for workers in (0, *WORKERS):
        row = (medians[workers, LONG] - medians[workers, SHORT]) / (LONG - SHORT)
        costs[workers] = Cost(medians[workers, SHORT] - SHORT * row, row)
    return costs


def compare(engine: str, costs: dict[int, Cost]) -> Iterator[Figure]:
    """Set each number of workers beside one process."""
    alone, beside = costs[0], "one process"
    for workers in WORKERS:
        cost, name = costs[workers], f"{engine}, {workers} worker{'s' if workers > 1 else ''}"
        yield Figure(name, 1 / cost.row, "rows/s", 1 / alone.row, round(alone.row / cost.row, 2), beside)
        yield Figure(f"{name}, overhead a row", (cost.row - alone.row) * 1e6, "µs")
    start = costs[1].start
    yield Figure(f"{engine}, start and end", start, "s", alone.start, round(alone.start / start, 2), beside)


def measure_memory(folder: Path) -> Iterator[Figure]:
    """Measure the memory of a run with two workers over all rows."""
    write_rows(folder / "many.jsonl", ROWS)
    run = folder / "many"
    options: list[str | Path] = [*SCRIPTED, *ray_options(2), "--run-folder", run]
    ran = run_command("score", folder / "many.jsonl", *options, watch=run / "records.jsonl")
    for share in (0.1, 0.5, 1.0):
        then, rows = ran.at(share), f"after {share * ROWS:,.0f} rows"
        yield Figure(f"memory of the command, {rows}", then.driver, "MB")
        yield Figure(f"memory of the larger actor, {rows}", then.largest_actor, "MB")
    yield Figure(f"{ROWS:,} rows, 2 workers", ran.seconds, "s")


def measure() -> Iterator[Figure]:
    """Measure costs with both engines, then memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in (SHORT, LONG):
            write_rows(folder / f"{rows}.jsonl", rows)
        yield from compare("scripted", measure_costs(folder, SCRIPTED))
        with instant_server() as address:
            server = ("--model", "instant", "--base-url", address, "--cache", "off")
            yield from compare("instant server", measure_costs(folder, server))
        yield from measure_memory(folder)


if __name__ == "__main__":
    report(measure, "Rows with Ray: what they cost, and memory.")
