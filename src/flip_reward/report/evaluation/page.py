"""An evaluation folder -> one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from flip_reward.data.files import write_atomically
from flip_reward.evaluation.tabulate import EvaluationData, read_data
from flip_reward.report import REPORT
from flip_reward.report.document import MAX_BYTES, PageLayout, write_document
from flip_reward.report.evaluation.payload import MOST_ITEMS, add_samples, make_figures

_SHARED = ("dom", "format", "data", "texts", "charts")
_OWN = ("filters", "charts", "accuracy", "conduct", "sample")
_LAYOUT = PageLayout(
    template="evaluation/template.html",
    scripts=(*_SHARED, *(f"evaluation/{name}" for name in _OWN), "explorer", "page", "evaluation/main"),
    libraries=("d3.min.js", "plot.umd.min.js"),
)

_FEWEST_ITEMS = 300
_SHORTEST_TEXT = 360
"""Where not all items are shown, rather fewer of them than texts cut further."""


def build_report(folder: Path, data: EvaluationData | None = None, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write `report.html` into an evaluation folder, and return its path.

    Texts longer than 20,000 characters are cut, and say so where they are shown. Where the file would be larger than
    `max_bytes` all texts are cut further, down to 80 characters; figures are of all items and whole texts.
    Of more than 6,000 items, or where that is not enough, some stand for all: of each subset and of each decision of
    each reward alike.
    """
    data, most = read_data(folder) if data is None else data, MOST_ITEMS
    figures = make_figures(folder, data)
    items = sum([benchmark.items for benchmark in figures.benchmarks])
    while True:
        content = add_samples(folder, data, figures, most=most)
        last = min(most, items) <= _FEWEST_ITEMS
        shortest = 0 if last or items <= most else _SHORTEST_TEXT
        page = write_document(
            _LAYOUT, figures.title, content.payload, content.texts, max_bytes=max_bytes, shortest=shortest
        )
        if last or len(page) <= max_bytes:
            break
        most = min(most, items) // 2
    path = folder / REPORT
    write_atomically(path, page)
    return path
