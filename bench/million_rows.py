"""Memory and time of a run over a million rows, and of resuming it when it is finished.

The scripted engine answers at once, so everything measured is ours: reading, prompts, parsing, F1, records. The peer
is a plain script over the same file, as evaluation scripts are: it reads all rows into a list with `json`, and in one
loop takes off thinking, fills the template, asks the same engine, parses the reply, computes F1 and what the response
copies, by the same functions, and keeps what differs from row to row; in the end it writes the fields of our records
with `json`. It checks nothing, groups nothing, and loses everything when it is killed.

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
ALIKE = {  # what our records hold besides, in this measurement the same for all
    "group_size": 1,
    "response_index": 0,
    "outcome": "scored",
    "detail": None,
    "cached_tokens": 0,
    "attempts": 1,
    "cached": False,
    "spread": None,
    "samples": [],
    "likelihood": None,
    "cautions": [],
    "parts": [],
    "other_reading": None,
}


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


async def score_plainly(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    from flip_reward import ScriptedEngine
    from flip_reward.core.copying import Copying
    from flip_reward.core.prompts import load_templates
    from flip_reward.core.replies.parse import parse_inferred_instruction
    from flip_reward.core.response import visible_answer
    from flip_reward.engines.base import Request
    from flip_reward.metrics import f1_score

    engine = ScriptedEngine(lambda _request: REPLY)
    template = load_templates().plain
    records: list[dict[str, object]] = []
    for number, row in enumerate(rows):
        instruction, answer = row["instruction"], visible_answer(row["response"])
        started = time.perf_counter()
        completion = await engine.complete(Request(template.format({"response": answer})))
        seconds = time.perf_counter() - started
        inferred = parse_inferred_instruction(
            completion.text, completion.finish_reason, template_text=template.fixed_text
        )
        reward, precision, recall = f1_score(inferred.instruction or "", instruction)
        records.append(
            {
                "id": row["id"],
                "row": number,
                "reward": reward,
                "precision": precision,
                "recall": recall,
                "instruction": instruction,
                "inferred_instruction": inferred.instruction,
                "reasoning": inferred.reasoning,
                "raw_reply": completion.text,
                "prompt_tokens": completion.usage.prompt_tokens,
                "completion_tokens": completion.usage.completion_tokens,
                "latency_seconds": round(seconds, 6),
                "copied_share": Copying.of(instruction).measure_share(answer),
            }
        )
    return records


def run_plain(folder: Path) -> None:
    started = time.perf_counter()
    with (folder / "rows.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    records = asyncio.run(score_plainly(rows))
    with (folder / "plain.jsonl").open("w") as file:
        file.writelines(json.dumps({**record, **ALIKE}) + "\n" for record in records)
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
