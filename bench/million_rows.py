"""Memory and time of a run over a million rows, and of resuming it when it is finished.

The scripted engine answers at once, so everything measured is ours: reading, prompts, parsing, F1, records. The peer
is a plain script over the same file that reads all rows into a list, scores them with the same functions and writes
the records in the end, as evaluation scripts do.

Run `python bench/million_rows.py`; the variable FLIP_BENCH_ROWS sets another number of rows.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, report

ROWS = int(os.environ.get("FLIP_BENCH_ROWS", "1000000"))
WARM = ROWS // 10
REPLY = '{"REASONING": "short", "INFERRED INSTRUCTION": "Explain how a suspension bridge carries its load."}'


def write_rows(path: Path, rows: int = ROWS) -> None:
    with path.open("w") as file:
        for number in range(rows):
            row = {
                "id": f"row-{number}",
                "instruction": f"Explain bridge number {number} in simple words.",
                "response": f"Bridge {number} hangs from cables that carry its load to the towers and the anchors.",
            }
            file.write(json.dumps(row) + "\n")


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


class MemoryWatch:
    """Reads the resident memory after a tenth of the rows, and its highest value after that."""

    def __init__(self) -> None:
        self.responses = 0
        self.after_warm_up = self.highest = 0.0

    def scored(self, scores: tuple[object, ...]) -> None:
        self.responses += len(scores)
        if self.responses % 10_000:
            return
        now = resident_megabytes()
        if self.responses == WARM:
            self.after_warm_up = now
        self.highest = max(self.highest, now)

    def rejected(self, row: object) -> None:
        raise AssertionError(row)


def run_ours(folder: Path) -> None:
    from flip_reward import FlipReward, ScriptedEngine
    from flip_reward.scoring.job import ScoringJob, open_job

    reward = FlipReward(ScriptedEngine(lambda _request: REPLY))
    started = time.perf_counter()
    opened = open_job(ScoringJob(reward, [str(folder / "rows.jsonl")], folder / "run"))
    watch = MemoryWatch()
    summary = asyncio.run(opened.run(observer=watch))
    opened.folder.close()
    assert summary.outcomes == {"scored": ROWS}
    growth = watch.highest - watch.after_warm_up
    print(json.dumps([time.perf_counter() - started, peak_megabytes(), growth]))


def run_plain(folder: Path) -> None:
    from flip_reward.core.prompts import load_templates
    from flip_reward.core.replies.parse import parse_inferred_instruction
    from flip_reward.metrics import f1_score

    started = time.perf_counter()
    template = load_templates().plain
    with (folder / "rows.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        template.format({"response": row["response"]})
        row["raw_reply"] = REPLY
        row["inferred_instruction"] = parse_inferred_instruction(REPLY).instruction
        row["f1"], row["precision"], row["recall"] = f1_score(row["inferred_instruction"], row["instruction"])
    with (folder / "plain.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    print(json.dumps([time.perf_counter() - started, peak_megabytes(), 0.0]))


def run_in_fresh_process(which: str, folder: Path) -> tuple[float, float, float]:
    finished = subprocess.run(
        [sys.executable, __file__, "--run", which, str(folder)], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, peak, growth = json.loads(finished.stdout)
    return seconds, peak, growth


def measure() -> Iterator[Figure]:
    """Measure one run, its resume, and the plain script."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl")
        seconds, peak, growth = run_in_fresh_process("ours", folder)
        resume_seconds, resume_peak, _ = run_in_fresh_process("ours", folder)
        plain_seconds, plain_peak, _ = run_in_fresh_process("plain", folder)
    size = f"{ROWS:,} rows"
    beside = "a plain script"
    yield Figure(f"{size}, peak memory", peak, "MB", plain_peak, round(plain_peak / peak, 2), beside)
    yield Figure(f"{size}, growth after the first {WARM:,}", growth, "MB")
    yield Figure(
        f"{size}, rows/s", ROWS / seconds, "rows/s", ROWS / plain_seconds, round(plain_seconds / seconds, 2), beside
    )
    yield Figure(
        f"{size}, resume when finished", resume_seconds, "s", seconds, round(seconds / resume_seconds, 2), "the run"
    )
    yield Figure(f"{size}, peak memory of the resume", resume_peak, "MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        {"ours": run_ours, "plain": run_plain}[sys.argv[2]](Path(sys.argv[3]))
    else:
        report(measure, "Memory and time of a million rows.")
