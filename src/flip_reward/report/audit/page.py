"""An audit folder -> one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from flip_reward.audit.tabulate import AuditData, read_data
from flip_reward.data.files import write_atomically
from flip_reward.report import REPORT
from flip_reward.report.audit.payload import make_audit_data
from flip_reward.report.document import MAX_BYTES, PageLayout, write_document

_SHARED = ("dom", "format", "data", "texts", "charts")
_OWN = ("heatmap", "findings", "cases", "sample")
_LAYOUT = PageLayout(
    template="audit/template.html",
    scripts=(*_SHARED, *(f"audit/{name}" for name in _OWN), "explorer", "page", "audit/main"),
    libraries=("d3.min.js", "plot.umd.min.js"),
)


def build_audit_page(folder: Path, data: AuditData | None = None, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write `report.html` into an audit folder, and return its path.

    The five worst texts of each attack and reward are in it. Where the file would be larger than `max_bytes` texts
    are cut, down to 80 characters; figures are never left out, and marks never moved.
    """
    payload, texts = make_audit_data(folder, read_data(folder) if data is None else data)
    path = folder / REPORT
    write_atomically(path, write_document(_LAYOUT, payload.title, payload, texts, max_bytes=max_bytes))
    return path
