"""One HTML file that needs nothing else: a template with its style, scripts and data, texts cut until it fits."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import orjson
from pydantic import BaseModel

from flip_reward.report.texts import TextTable

MAX_BYTES = 3_000_000
"""How large a page becomes by default. Texts are cut until it fits."""

_COMPRESSION = 6
"""The next levels take several times as long, for a twentieth less."""
_TEXT_LIMITS = (80, 120, 160, 240, 360, 500, 700, 1000, 1400, 2000, 3000, 4500, 7000, 12_000, 20_000)


@dataclass(frozen=True, slots=True)
class PageLayout:
    """What a kind of page is made of: files below `page/`, and libraries of `assets/`.

    The template is the body; what stands before it, head.html, is the same for all kinds.
    """

    template: str
    scripts: tuple[str, ...]
    """In the order in which they run; they share one scope."""
    libraries: tuple[str, ...] = ()
    asks: bool = False
    """Whether the page may ask the server that it came from; others ask nobody for anything."""


def write_document(
    layout: PageLayout, title: str, payload: object, texts: TextTable, *, max_bytes: int, shortest: int = 0
) -> bytes:
    """Return a page with its data; larger than `max_bytes` only where that takes shorter texts than `shortest`.

    No text has more than 20,000 characters. Where the page would be too large all texts are cut further, down to
    `shortest` characters or 80; whatever else is in the payload is never left out.
    """
    before, after = _fill(layout, title)
    limits = [limit for limit in _TEXT_LIMITS if limit >= shortest]
    return before + _fit(payload, texts, limits, max_bytes - len(before) - len(after)) + after


def _fit(payload: object, texts: TextTable, limits: list[int], max_bytes: int) -> bytes:
    """Return the data with texts as long as the limit allows."""
    encoded = _encode(payload, texts, limits[-1])  # enough for most pages
    if len(encoded) <= max_bytes:
        return encoded
    shortest, longest = 0, len(limits) - 1
    encoded = _encode(payload, texts, limits[shortest])
    while longest - shortest > 1:
        tried = (shortest + longest) // 2
        attempt = _encode(payload, texts, limits[tried])
        if len(attempt) <= max_bytes:
            shortest, encoded = tried, attempt
        else:
            longest = tried
    return encoded


def _encode(payload: object, texts: TextTable, text_limit: int) -> bytes:
    """Return the data as base64, which no text can break out of, of compressed JSON."""
    cut = texts.cut(text_limit)
    content = {"text_limit": text_limit, "texts": cut.texts, "omitted": cut.omitted, "payload": payload}
    return base64.b64encode(gzip.compress(orjson.dumps(content, default=_dump_model), _COMPRESSION, mtime=0))


def _dump_model(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude={"as_chance"})  # an accuracy's `fractional` by another name
    raise TypeError(f"{type(value).__name__} is not JSON")


def _fill(layout: PageLayout, title: str) -> tuple[bytes, bytes]:
    """Return the page up to its data, and what follows them."""
    template, parts = _read(layout)
    values = {**parts, "title": html.escape(title)}
    before, after = template.split("{{ data }}")

    def fill(text: str) -> bytes:
        return _PLACEHOLDER.sub(lambda found: values[found[1]], text).encode()

    return fill(before), fill(after)


_PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")


@cache
def _read(layout: PageLayout) -> tuple[str, Mapping[str, str]]:
    """Read the template of a kind of page, and its parts: style, libraries, scripts and their hashes."""
    room = files("flip_reward.report")
    page, assets = room / "page", room / "assets"
    libraries = [(assets / name).read_text(encoding="utf-8") for name in layout.libraries]
    if libraries:
        libraries.insert(0, f"/*\n{(assets / 'LICENSES.txt').read_text(encoding='utf-8')}*/")
    scripts = [*libraries, *[(page / f"{name}.js").read_text(encoding="utf-8") for name in layout.scripts]]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    head, body = ((page / name).read_text(encoding="utf-8") for name in ("head.html", layout.template))
    return head + body, {
        "kind": layout.template.partition("/")[0],
        "connect": " connect-src 'self';" if layout.asks else "",
        "style": (page / "style.css").read_text(encoding="utf-8"),
        "explorer": (page / "explorer.html").read_text(encoding="utf-8"),
        "script_hashes": " ".join([f"'sha256-{one}'" for one in hashes]),
        "scripts": "\n".join([f"<script>{script}</script>" for script in scripts]),
    }
