"""The folder of `flip-reward score`, `best-of-n` or `rescore` -> one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from flip_reward.data.files import write_atomically
from flip_reward.report import REPORT
from flip_reward.report.document import MAX_BYTES, PageLayout, write_document
from flip_reward.report.run.payload import RunRead, make_run_data
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.run_folder import RECORDS

_SHARED = ("dom", "format", "data", "texts")
_OWN = ("view", "figures", "sample")
_LAYOUT = PageLayout(
    template="run/template.html",
    scripts=(*_SHARED, *(f"run/{name}" for name in _OWN), "explorer", "page", "run/main"),
)
_MOST_RESPONSES = 5000
_FEWEST_RESPONSES = 300
_SHORTEST_TEXT = 360
"""Rather than cut texts further, fewer responses are shown."""


def is_run(folder: Path) -> bool:
    """Whether a folder holds scored responses."""
    return (folder / RECORDS).exists() and (folder / MANIFEST).exists()


def build_run_page(folder: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write `report.html` into a run folder, which need not be finished, and return its path.

    Figures are of all responses. Of more than 5,000, or where the file would be larger than `max_bytes`, some rows
    stand for the others: of each bar of the histogram, each outcome and each caution alike.
    """
    run, most = RunRead.of(folder), _MOST_RESPONSES
    while True:
        payload, texts = make_run_data(run, most=most)
        last = most <= _FEWEST_RESPONSES
        shortest = 0 if last else _SHORTEST_TEXT
        page = write_document(_LAYOUT, payload.title, payload, texts, max_bytes=max_bytes, shortest=shortest)
        if last or len(page) <= max_bytes:
            break
        most = min(most, payload.samples_responses) // 2
    path = folder / REPORT
    write_atomically(path, page)
    return path
