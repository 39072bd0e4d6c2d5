"""The OpenAPI document, made of the pydantic models, and the answers of the routes that do not score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, TypeAdapter

from flip_reward import __version__
from flip_reward.server.contracts.rewards import REWARDS
from flip_reward.server.exchange import Contract
from flip_reward.server.gate import OPEN_PATHS
from flip_reward.server.streaming import NDJSON

_Part: TypeAlias = dict[str, object]


class HealthAnswer(BaseModel):
    """The process is there."""

    status: str


class ReadyAnswer(BaseModel):
    """Whether the model behind the reward answers."""

    ready: bool


class ModelOut(BaseModel):
    """The model behind the reward."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    reward: str


class ModelsAnswer(BaseModel):
    """The models, as OpenAI's clients list them: the one behind the reward."""

    object: str = "list"
    data: list[ModelOut]


class ErrorFields(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: None = None
    code: int


class ErrorAnswer(BaseModel):
    """The answer of every failure: `error` as OpenAI's and vLLM's clients read it, `detail` as Jina's do."""

    error: ErrorFields
    detail: str
    request_id: str


@dataclass(frozen=True, slots=True)
class _Page:
    """A route that is asked with GET."""

    summary: str
    answer: TypeAdapter[Any] | None = None
    media_type: str = "application/json"
    failures: tuple[int, ...] = ()


_PAGES: Mapping[str, _Page] = MappingProxyType(
    {
        "/health": _Page("Is the process there?", TypeAdapter(HealthAnswer)),
        "/ready": _Page("Does the model answer?", TypeAdapter(ReadyAnswer)),
        "/metrics": _Page("For Prometheus", media_type="text/plain"),
        "/v1/models": _Page("The model behind the reward", TypeAdapter(ModelsAnswer)),
        "/v1/models/{id}": _Page("The model behind the reward, by its name", TypeAdapter(ModelOut), failures=(404,)),
        "/openapi.json": _Page("This document", TypeAdapter(dict[str, object])),
        "/docs": _Page("This document as a page", media_type="text/html"),
    }
)
_FAILURES: Mapping[int, str] = MappingProxyType(
    {
        400: "The body is no JSON",
        401: "The key is missing or wrong",
        404: "There is no such thing",
        408: "The body did not arrive in time",
        413: "The body or the request is too large",
        415: "The body has another media type",
        422: "The body has no shape that the route reads, or an empty instruction, or its responses are unscored",
        429: "There is no room for more now",
        500: "The server failed",
        503: "The language model does not answer, or the server stops",
    }
)
_SCORING_FAILURES = (400, 408, 413, 415, 422, 429, 503)
_FAILURE: TypeAdapter[ErrorAnswer] = TypeAdapter(ErrorAnswer)
_LINES: _Part = {"type": "string", "description": "A RewardGroup a line, as JSON; another is answered with an error."}
_ANSWERED_LINES: _Part = {
    "type": "string",
    "description": "A GroupOut a line, as JSON; an ErrorAnswer where the stream ends early.",
}
_DETAILS: _Part = {
    "name": "details",
    "in": "query",
    "description": "As `details` of the body, which lines have no room for.",
    "schema": {"type": "boolean", "default": False},
}
_ID: _Part = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The name of the model; it may hold slashes.",
    "schema": {"type": "string"},
}


def describe_api(contracts: Mapping[str, Contract], *, has_key: bool) -> dict[str, Any]:
    """Make the OpenAPI document: what is accepted at every route, and all that may come back.

    Example:
        >>> document = describe_api({"/v1/rewards": REWARDS}, has_key=False)
        >>> document["paths"]["/v1/rewards"]["post"]["summary"]
        'Score groups of responses'
    """
    schemas, definitions = TypeAdapter.json_schemas(
        [(path, "validation", contract.described or contract.questions) for path, contract in contracts.items()]
        + [(path, "serialization", contract.answers) for path, contract in contracts.items()]
        + [(path, "serialization", page.answer) for path, page in _PAGES.items() if page.answer is not None]
        + [("failure", "serialization", _FAILURE)],
        ref_template="#/components/schemas/{model}",
    )

    def content(path: str, mode: Literal["validation", "serialization"] = "serialization") -> _Part:
        return {"application/json": {"schema": schemas[path, mode]}}

    def responses(path: str, answer: _Part, statuses: tuple[int, ...]) -> _Part:
        asked = (401,) if has_key and path not in OPEN_PATHS else ()
        failures = {
            str(status): {"description": _FAILURES[status], "content": content("failure")}
            for status in sorted((*statuses, *asked, 500))
        }
        return {"200": {"description": "The answer", "content": answer}, **failures}

    paths: dict[str, _Part] = {}
    for path, contract in contracts.items():
        question, answer = content(path, "validation"), content(path)
        operation: _Part = {"summary": contract.summary, "operationId": path.strip("/").replace("/", "_")}
        if contract is REWARDS:
            operation["parameters"] = [_DETAILS]
            question[NDJSON], answer[NDJSON] = {"schema": _LINES}, {"schema": _ANSWERED_LINES}
        operation["requestBody"] = {"required": True, "content": question}
        paths[path] = {"post": operation | {"responses": responses(path, answer, _SCORING_FAILURES)}}
    for path, page in _PAGES.items():
        shown: _Part = content(path) if page.answer else {page.media_type: {"schema": {"type": "string"}}}
        operation = {"summary": page.summary, "operationId": path.strip("/").translate(_NAMES)}
        if "{id}" in path:
            operation["parameters"] = [_ID]
        if path in OPEN_PATHS:
            operation["security"] = []
        answers = responses(path, shown, page.failures)
        if path == "/ready":
            answers["503"] = {"description": "The model does not answer", "content": shown}
        paths[path] = {"get": operation | {"responses": answers}}
    components: _Part = {"schemas": definitions["$defs"]}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "flip-reward",
            "version": __version__,
            "description": "Rewards for responses, without references and without rubrics.",
        },
        "paths": paths,
        "components": components,
    }
    if has_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


_NAMES = str.maketrans({"/": "_", "{": None, "}": None, ".": "_"})
