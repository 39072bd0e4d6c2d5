"""The OpenAPI document of routes that read their bodies themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REFERENCE = "#/components/schemas/{model}"


class ErrorFields(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: None = None
    code: int


class ErrorAnswer(BaseModel):
    """What every failure looks like: `error` as OpenAI's and vLLM's clients read it, `detail` as Jina's do."""

    error: ErrorFields
    detail: str
    request_id: str


def body_of(models: Sequence[type[BaseModel]]) -> dict[str, object]:
    """Describe a body that is one of several models."""
    references = [{"$ref": _REFERENCE.format(model=model.__name__)} for model in models]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe_bodies(app: FastAPI, models: Sequence[type[BaseModel]], *, has_key: bool) -> None:
    """Put the models of bodies into an application's OpenAPI document, which FastAPI cannot know of.

    Args:
        app: The application, with all its routes.
        models: The models of bodies.
        has_key: Requests need a key.
    """
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    make: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for name, schema in definitions["$defs"].items():
            schemas.setdefault(name, schema)
        if has_key:
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it done
