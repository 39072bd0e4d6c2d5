"""The application: its routes and their OpenAPI document. `run.py` imports this late, because it needs Starlette."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from flip_reward import __version__
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.options import PolicyOptions
from flip_reward.server.contracts.rerank import RERANK, SCORE
from flip_reward.server.contracts.rewards import REWARDS
from flip_reward.server.contracts.trainers import GET_REWARD
from flip_reward.server.docs import render_docs
from flip_reward.server.exchange import Contract, Exchange
from flip_reward.server.gate import Gate
from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import ApiError, Problem
from flip_reward.server.scorer import Scorer
from flip_reward.server.settings import ServerSettings

CONTRACTS: Mapping[str, Contract] = MappingProxyType(
    {
        "/v1/rewards": REWARDS,
        "/get_reward": GET_REWARD,
        "/score": SCORE,
        "/v1/score": SCORE,
        "/rerank": RERANK,
        "/v1/rerank": RERANK,
        "/v2/rerank": RERANK,
    }
)


def create_app(reward: RewardModel, settings: ServerSettings) -> Starlette:
    """Build the application that serves a reward."""
    reader = PolicyOptions(settings.policy_tokenizer).load_reader()
    metrics = Metrics()
    scorer = Scorer(reward, settings.limits, metrics)
    metrics.watch_pending(lambda: scorer.admission.pending)
    routes = [
        Route(path, Exchange(contract, scorer, settings, reader), methods=["POST"])
        for path, contract in CONTRACTS.items()
    ]
    routes += _status_routes(scorer, metrics, has_key=settings.api_key is not None)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await scorer.aclose()

    return Starlette(
        routes=routes,
        middleware=[Middleware(Gate, settings=settings, metrics=metrics, paths=[route.path for route in routes])],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )


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


def _status_routes(scorer: Scorer, metrics: Metrics, *, has_key: bool) -> list[Route]:
    model = ModelOut(id=scorer.model, created=int(time.time()), owned_by="flip-reward", reward=scorer.reward_name)
    described = openapi_document(has_key=has_key)
    document, page = orjson.dumps(described), render_docs(described)

    async def health(_request: Request) -> Response:
        return _json(HealthAnswer(status="ok"))

    async def ready(_request: Request) -> Response:
        answers = await scorer.health.check()
        return _json(ReadyAnswer(ready=answers), 200 if answers else 503)

    async def read_metrics(_request: Request) -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(_request: Request) -> Response:
        return _json(ModelsAnswer(data=[model]))

    async def openapi(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def docs(_request: Request) -> Response:
        return HTMLResponse(page)

    return [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", read_metrics),
        Route("/v1/models", models),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
    ]


def _json(answer: BaseModel, status: int = 200) -> Response:
    return Response(answer.model_dump_json(), status, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer a wrong path or method like any other failure; the path is shown where it can be."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for nothing else
    problem = Problem.WRONG_METHOD if error.status_code == 405 else Problem.NOT_FOUND
    path = request.url.path
    shown = path if path.isprintable() and len(path) < 100 else "this path"
    failure = ApiError(error.status_code, problem, f"{request.method} {shown}: {error.detail}")
    headers = {**failure.headers, **(error.headers or {})}
    return Response(failure.body(request.state.request_id), failure.status, headers, "application/json")


_FAILURES = (400, 401, 408, 413, 415, 422, 429, 500, 503)
_PAGES: Mapping[str, tuple[str, TypeAdapter[Any] | None]] = MappingProxyType(
    {
        "/health": ("Is the process there?", TypeAdapter(HealthAnswer)),
        "/ready": ("Does the model answer?", TypeAdapter(ReadyAnswer)),
        "/metrics": ("For Prometheus", None),
        "/v1/models": ("The model behind the reward", TypeAdapter(ModelsAnswer)),
    }
)
_FAILURE: TypeAdapter[ErrorAnswer] = TypeAdapter(ErrorAnswer)


def openapi_document(*, has_key: bool) -> dict[str, Any]:
    """Make the OpenAPI document of the pydantic models.

    Example:
        >>> document = openapi_document(has_key=False)
        >>> document["paths"]["/v1/rewards"]["post"]["summary"]
        'Score groups of responses'
    """
    bodies = {path: contract.described or contract.questions for path, contract in CONTRACTS.items()}
    answers = {path: contract.answers for path, contract in CONTRACTS.items()}
    answers |= {path: answer for path, (_, answer) in _PAGES.items() if answer is not None} | {"failure": _FAILURE}
    schemas, definitions = TypeAdapter.json_schemas(
        [(path, "validation", body) for path, body in bodies.items()]
        + [(path, "serialization", answer) for path, answer in answers.items()],
        ref_template="#/components/schemas/{model}",
    )

    def content(path: str, mode: Any) -> dict[str, object]:  # noqa: ANN401 - pydantic's literal
        return {"content": {"application/json": {"schema": schemas[path, mode]}}}

    failure = {"description": "A failure", **content("failure", "serialization")}
    paths: dict[str, dict[str, object]] = {}
    for path, contract in CONTRACTS.items():
        operation: dict[str, object] = {
            "summary": contract.summary,
            "operationId": path.strip("/").replace("/", "_"),
            "requestBody": {"required": True, **content(path, "validation")},
            "responses": {"200": {"description": "The answer", **content(path, "serialization")}}
            | {str(status): failure for status in _FAILURES},
        }
        paths[path] = {"post": operation}
    for path, (summary, answer) in _PAGES.items():
        shown = content(path, "serialization") if answer else {"content": {"text/plain": {}}}
        responses: dict[str, object] = {"200": {"description": "The answer", **shown}}
        if path == "/ready":
            responses["503"] = {"description": "The model does not answer", **shown}
        paths[path] = {"get": {"summary": summary, "operationId": path.strip("/"), "responses": responses}}
    document: dict[str, object] = {
        "openapi": "3.1.0",
        "info": {
            "title": "flip-reward",
            "version": __version__,
            "description": "Rewards for responses, without references and without rubrics.",
        },
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }
    if has_key:
        schemes = {"key": {"type": "http", "scheme": "bearer"}}
        document |= {"components": {"schemas": definitions["$defs"], "securitySchemes": schemes}}
        document["security"] = [{"key": []}]
    return document
