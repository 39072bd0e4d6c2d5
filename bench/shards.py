"""A run in shards beside one run over the same rows, and their merge.

Every shard reads the whole input, and leaves out the rows of the others before they are parsed. What that costs is
measured by one shard of 9,999. The scripted engine answers at once. A merge reads the shards' records side by
side and writes them in input order, and with `-o` the user's rows beside them.

Run `python bench/shards.py`; the variable FLIP_BENCH_ROWS sets another number of rows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from commands import SCRIPTED, run_command
from figures import Figure, report
from million_rows import write_rows

ROWS = int(os.environ.get("FLIP_BENCH_ROWS", "400000"))
SHARDS = 8


def measure() -> Iterator[Figure]:
    """Measure one run, the same rows in shards, a merge, and reading past the rows of others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, one, parent = folder / "rows.jsonl", folder / "one", folder / "parent"
        write_rows(rows, ROWS)
        bare = folder / "bare"
        write_rows(folder / "few.jsonl", 1)
        start = run_command("score", folder / "few.jsonl", *SCRIPTED, "--run-folder", bare)
        single = run_command("score", rows, *SCRIPTED, "--run-folder", one)
        shards = [
            run_command("score", rows, *SCRIPTED, "--run-folder", parent, "--shard", f"{number}/{SHARDS}")
            for number in range(1, SHARDS + 1)
        ]
        again = run_command("score", rows, *SCRIPTED, "--run-folder", parent, "--shard", f"1/{SHARDS}")
        merge = run_command("merge", parent)
        passing = run_command("score", rows, *SCRIPTED, "--run-folder", folder / "thin", "--shard", "1/9999")
        record_bytes = (parent / "merged/records.jsonl").stat().st_size / ROWS
        shutil.rmtree(parent / "merged")
        written = run_command("merge", parent, "-o", folder / "out.parquet")
    size = f"{ROWS:,} rows"
    together = sum(shard.seconds for shard in shards)
    slowest = max(shard.seconds for shard in shards)
    yield Figure(
        f"{size} in {SHARDS} shards, one after the other", together, "s", single.seconds,
        round(single.seconds / together, 2), "one run",
    )  # fmt: skip
    yield Figure(
        f"{size}, the slowest of {SHARDS} shards", slowest, "s", single.seconds,
        round(single.seconds / slowest, 2), "one run",
    )  # fmt: skip
    yield Figure("a row of another shard, CPU time", (passing.cpu_seconds - start.cpu_seconds) / ROWS * 1e6, "µs")
    yield Figure("peak memory of a shard", max(shard.peak_megabytes for shard in shards), "MB")
    yield Figure(
        "a finished shard, once more", again.seconds, "s", start.seconds,
        round(start.seconds / again.seconds, 2), "one row",
    )  # fmt: skip
    for name, ran in (("merge", merge), ("merge, and the rows as Parquet", written)):
        yield Figure(f"{name}, CPU time", (ran.cpu_seconds - start.cpu_seconds) / ROWS * 1e6, "µs a row")
        yield Figure(f"{name}, peak memory", ran.peak_megabytes, "MB")
    yield Figure("a record of the scripted engine", record_bytes, "bytes")


if __name__ == "__main__":
    report(measure, "Shards and their merge.")
