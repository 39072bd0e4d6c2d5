"""An evaluation folder -> one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import orjson
from pydantic import BaseModel

from flip_reward.data.files import write_atomically
from flip_reward.evaluation.tabulate import EvaluationData, read_data
from flip_reward.report import REPORT
from flip_reward.report.payload import ReportData, make_report_data

MAX_BYTES = 3_000_000
"""How large a report becomes by default. Texts are cut until it fits."""

_LIBRARIES = ("d3.min.js", "plot.umd.min.js")
_SCRIPTS = tuple(
    f"{name}.js"
    for name in ("dom", "format", "payload", "filters", "charts", "accuracy", "conduct", "sample", "explorer", "main")
)
_TEXT_LIMITS = (80, 120, 160, 240, 360, 500, 700, 1000, 1400, 2000, 3000, 4500, 7000, 12_000, 20_000)


def build_report(folder: Path, data: EvaluationData | None = None, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write `report.html` into an evaluation folder, and return its path.

    Texts longer than 20,000 characters are cut, and say so where they are shown. Where the file would be larger than
    `max_bytes` all texts are cut further, down to 80 characters; figures are never left out, and highlights never
    moved.
    """
    content = make_report_data(folder, read_data(folder) if data is None else data)
    before, after = _fill_page(content.payload.title)
    encoded = _fit(content, max_bytes - len(before) - len(after))
    path = folder / REPORT
    write_atomically(path, before + encoded + after)
    return path


def _fit(data: ReportData, max_bytes: int) -> bytes:
    """Return the data with texts as long as the limit allows."""
    encoded = _encode(data, _TEXT_LIMITS[-1])  # enough for most evaluations
    if len(encoded) <= max_bytes:
        return encoded
    shortest, longest = 0, len(_TEXT_LIMITS) - 1
    encoded = _encode(data, _TEXT_LIMITS[shortest])
    while longest - shortest > 1:
        tried = (shortest + longest) // 2
        attempt = _encode(data, _TEXT_LIMITS[tried])
        if len(attempt) <= max_bytes:
            shortest, encoded = tried, attempt
        else:
            longest = tried
    return encoded


def _encode(data: ReportData, text_limit: int) -> bytes:
    """Return the data as base64, which no text can break out of, of compressed JSON."""
    cut = data.texts.cut(text_limit)
    content = {"text_limit": text_limit, "texts": cut.texts, "omitted": cut.omitted, "payload": data.payload}
    return base64.b64encode(gzip.compress(orjson.dumps(content, default=_dump_model), mtime=0))


def _dump_model(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude={"as_chance"})  # an accuracy's `fractional` by another name
    raise TypeError(f"{type(value).__name__} is not JSON")


def _fill_page(title: str) -> tuple[bytes, bytes]:
    """Return the page up to its data, and what follows them."""
    template, parts = _read_page()
    values = {**parts, "title": html.escape(title)}
    before, after = template.split("{{ data }}")

    def fill(text: str) -> bytes:
        return _PLACEHOLDER.sub(lambda found: values[found[1]], text).encode()

    return fill(before), fill(after)


_PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")


@cache
def _read_page() -> tuple[str, Mapping[str, str]]:
    """Read the template and the parts of every report: style, libraries, scripts and their hashes."""
    room = files("flip_reward.report")
    page, assets = room / "page", room / "assets"
    licences = (assets / "LICENSES.txt").read_text(encoding="utf-8")
    libraries = [(assets / name).read_text(encoding="utf-8") for name in _LIBRARIES]
    scripts = [f"/*\n{licences}*/", *libraries, *[(page / name).read_text(encoding="utf-8") for name in _SCRIPTS]]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return (page / "template.html").read_text(encoding="utf-8"), {
        "style": (page / "style.css").read_text(encoding="utf-8"),
        "script_hashes": " ".join([f"'sha256-{one}'" for one in hashes]),
        "scripts": "\n".join([f"<script>{script}</script>" for script in scripts]),
    }
