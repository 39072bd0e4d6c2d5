"""An evaluation folder -> one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from flip_reward.data.files import write_atomically
from flip_reward.evaluation.tabulate import EvaluationData, read_data
from flip_reward.report import REPORT
from flip_reward.report.document import MAX_BYTES, PageLayout, write_document
from flip_reward.report.evaluation.payload import make_report_data

_SHARED = ("dom", "format", "data", "texts", "charts")
_OWN = ("filters", "charts", "accuracy", "conduct", "sample")
_LAYOUT = PageLayout(
    template="evaluation/template.html",
    scripts=(*_SHARED, *(f"evaluation/{name}" for name in _OWN), "explorer", "page", "evaluation/main"),
    libraries=("d3.min.js", "plot.umd.min.js"),
)


def build_report(folder: Path, data: EvaluationData | None = None, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write `report.html` into an evaluation folder, and return its path.

    Texts longer than 20,000 characters are cut, and say so where they are shown. Where the file would be larger than
    `max_bytes` all texts are cut further, down to 80 characters; figures are never left out, and highlights never
    moved.
    """
    content = make_report_data(folder, read_data(folder) if data is None else data)
    path = folder / REPORT
    page = write_document(_LAYOUT, content.payload.title, content.payload, content.texts, max_bytes=max_bytes)
    write_atomically(path, page)
    return path
