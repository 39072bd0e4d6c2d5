"""A million rows through `-o`: the user's columns and the scores beside them, as CSV and as Parquet.

Measured is what follows a finished run: rows are read again from the input, meet their records and are written. The
peer is pandas, which reads the same file and a table with the same scores, joins both by position and writes them.

Run `python bench/output.py`; the variable FLIP_BENCH_ROWS sets another number of rows.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, report
from million_rows import peak_megabytes

ROWS = int(os.environ.get("FLIP_BENCH_ROWS", "1000000"))
ENDINGS = ("csv", "parquet")


def make_row(number: int) -> dict[str, object]:
    return {
        "id": f"row-{number}",
        "instruction": f"Explain bridge number {number} in simple words.",
        "response": f"Bridge {number} hangs from cables that carry its load to the towers and the anchors.",
        "source": "bridges",
        "weight": number / 8,
    }


def prepare(folder: Path, _ending: str) -> None:
    """Write rows and records, in a process of its own: what its memory grew to counts for those it starts."""
    write_rows(folder)
    write_records(folder)
    print(json.dumps([0, 0]))


def write_rows(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (folder / "rows.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(make_row(0)))
        table.writeheader()
        table.writerows(map(make_row, range(ROWS)))
    schema = pa.RecordBatch.from_pylist([make_row(0)]).schema
    with pq.ParquetWriter(folder / "rows.parquet", schema) as writer:
        for start in range(0, ROWS, 10_000):
            rows = [make_row(number) for number in range(start, min(ROWS, start + 10_000))]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def write_records(folder: Path) -> None:
    """Write the records of a run, a few of them out of order as 64 workers leave them."""
    from flip_reward.core.score import Cost, Outcome, Score, Usage
    from flip_reward.scoring.records import Record

    score = Score(
        0.4,
        Outcome.SCORED,
        0.5,
        0.3,
        "Explain how a suspension bridge carries its load.",
        "short",
        '{"REASONING": "short", "INFERRED INSTRUCTION": "Explain how a suspension bridge carries its load."}',
        cost=Cost(Usage(120, 20), 1, 0.2),
    )
    (folder / "run").mkdir()
    with (folder / "run" / "records.jsonl").open("wb") as file:
        for number in range(ROWS):
            row = min(number ^ 32, ROWS - 1) if ROWS % 64 == 0 else number
            file.write(Record(row, f"row-{row}", 1, 0, str(make_row(row)["instruction"]), score).to_line())


def run_ours(folder: Path, ending: str) -> None:
    from flip_reward.data.readers import open_input
    from flip_reward.data.shapes import find_shape
    from flip_reward.scoring.output import Output, RunRows, write_scores

    started = time.perf_counter()
    inputs = [open_input(str(folder / f"rows.{ending}"))]
    rows = RunRows(inputs, find_shape(inputs))
    output = Output(folder / f"ours.{ending}")
    write_scores(output, output.survey(inputs, limit=None), folder / "run", rows)
    print(json.dumps([time.perf_counter() - started, peak_megabytes()]))


def run_pandas(folder: Path, ending: str) -> None:
    import pandas as pd

    started = time.perf_counter()
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    rows = read(folder / f"rows.{ending}")
    with (folder / "run" / "records.jsonl").open() as file:
        records = pd.DataFrame([json.loads(line) for line in file]).sort_values("row", ignore_index=True)
    names = ["reward", "outcome", "inferred_instruction", "precision", "recall", "reasoning", "detail"]
    joined = pd.concat([rows, records[names]], axis=1)
    if ending == "csv":
        joined.to_csv(folder / "pandas.csv", index=False)
    else:
        joined.to_parquet(folder / "pandas.parquet", index=False)
    print(json.dumps([time.perf_counter() - started, peak_megabytes()]))


def run_in_fresh_process(which: str, folder: Path, ending: str) -> tuple[float, float]:
    command = [sys.executable, __file__, "--run", which, str(folder), ending]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = json.loads(finished.stdout)
    return seconds, peak


def measure() -> Iterator[Figure]:
    """Measure our output and pandas' for each format."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_in_fresh_process("prepare", folder, "")
        for ending in ENDINGS:
            seconds, peak = run_in_fresh_process("ours", folder, ending)
            theirs, their_peak = run_in_fresh_process("pandas", folder, ending)
            size = f"{ROWS:,} rows as {ending}"
            yield Figure(f"{size}, peak memory", peak, "MB", their_peak, round(their_peak / peak, 2), "pandas")
            rates = ROWS / seconds, ROWS / theirs
            yield Figure(f"{size}, rows/s", rates[0], "rows/s", rates[1], round(theirs / seconds, 2), "pandas")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        {"prepare": prepare, "ours": run_ours, "pandas": run_pandas}[sys.argv[2]](Path(sys.argv[3]), sys.argv[4])
    else:
        report(measure, "The user's rows with a million scores beside them, as CSV and Parquet.")
