"""The page at /docs, made of the OpenAPI document. It loads nothing: servers often have no way to the internet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 25%, transparent) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 0 auto; padding: 1rem }
body { overflow-wrap: anywhere }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; padding: .5rem .8rem }
summary { cursor: pointer }
summary b { font-size: .8rem; margin-right: .4rem; text-transform: uppercase }
dt { border-top: 1px solid var(--line); margin-top: .4rem; padding-top: .4rem }
dd { margin: 0 0 0 1rem }
small, h3 { font-weight: normal; opacity: .75 }
"""


def render_docs(document: Mapping[str, Any]) -> str:
    """Make a page of an OpenAPI document: what can be asked, and every field of the questions and answers."""
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    schemas: Mapping[str, Any] = document["components"]["schemas"]
    operations = "".join(
        _render_operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    parts = "".join(_render_schema(name, schema) for name, schema in schemas.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(info['description'])} For programs: <a href='openapi.json'>openapi.json</a></p>"
        f"<h2>Paths</h2>{operations}<h2>Schemas</h2>{parts}</html>"
    )


def _render_operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    question = _describe_body(operation.get("requestBody", {}))
    asked = f"<h3>Question</h3><p>{question}</p>" if question else ""
    for one in operation.get("parameters", ()):
        asked += f"<p><code>{escape(one['name'])}</code> in the {one['in']}: {escape(one['description'])}</p>"
    statuses: dict[str, list[str]] = {}
    for status, one in operation["responses"].items():
        text = f"{escape(one['description'])}: {_describe_body(one)}"
        statuses.setdefault(text, []).append(status)
    answers = "".join(f"<dt>{', '.join(listed)}</dt><dd>{text}</dd>" for text, listed in statuses.items())
    return (
        f"<details><summary><b>{method}</b><code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
        f"{asked}<h3>Answers</h3><dl>{answers}</dl></details>"
    )


def _describe_body(body: Mapping[str, Any]) -> str:
    """Say what a body is, in each of its media types; JSON needs no name."""
    return ", or ".join(
        _describe(content["schema"]) if media_type == "application/json" else f"<code>{escape(media_type)}</code>"
        for media_type, content in body.get("content", {}).items()
    )


def _render_schema(name: str, schema: Mapping[str, Any]) -> str:
    fields = "".join(_render_fields(schema)) or f"<dd>{_describe(schema)}</dd>"
    text = escape(schema.get("description", ""))
    return (
        f'<details id="{escape(name)}" open><summary><code>{escape(name)}</code></summary>'
        f"<p>{text}</p><dl>{fields}</dl></details>"
    )


def _render_fields(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        needed = "" if name in schema.get("required", ()) else " <small>optional</small>"
        text = escape(field.get("description", ""))
        yield f"<dt><code>{escape(name)}</code> {_describe(field)}{needed}</dt><dd>{text}</dd>"


def _describe(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a value is, with links to the schemas in it."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_describe(one) for one in schema[key])
    if "const" in schema or "enum" in schema:
        return " or ".join(f"<code>{escape(repr(one))}</code>" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"array of {_describe(schema.get('items', {})) or 'anything'}"
    return escape(str(schema.get("type", "")))
