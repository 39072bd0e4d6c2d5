"""The application: which route answers in which contract. This module imports FastAPI; `run.py` imports it late.

The OpenAPI document of routes that read their bodies themselves.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.types import Receive

from flip_reward import __version__
from flip_reward.rewards.base import RewardModel
from flip_reward.server.contracts.llama_factory import LlamaFactoryAnswer
from flip_reward.server.contracts.openrlhf import OpenRlhfAnswer
from flip_reward.server.contracts.rerank import SCORE, ScoreAnswer
from flip_reward.server.contracts.rewards import REWARDS, RewardAnswer, RewardRequest
from flip_reward.server.contracts.server_rerank import RERANK, RerankAnswer, RerankRequest
from flip_reward.server.contracts.trainers import GET_REWARD
from flip_reward.server.exchange import Answer, Contract, Question, exchange
from flip_reward.server.gate import Gate, Handler
from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import ApiError, Problem
from flip_reward.server.scorer import Scorer
from flip_reward.server.settings import ServerSettings

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


_FAILURES = (400, 401, 408, 413, 415, 422, 429, 500, 503)


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


def create_app(reward: RewardModel, settings: ServerSettings) -> Gate:
    """Build the application of a reward.

    Args:
        reward: Scores the groups.
        settings: What the user chose.

    Example:
        >>> from flip_reward import FlipReward, ScriptedEngine
        >>> app = create_app(FlipReward(ScriptedEngine()), ServerSettings())
        >>> type(app).__name__
        'Gate'
    """
    metrics = Metrics()
    scorer = Scorer(reward, settings.limits, metrics)
    metrics.watch_pending(lambda: scorer.admission.pending)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await scorer.aclose()

    app = FastAPI(
        title="flip-reward", version=__version__, description=_DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    app.add_exception_handler(HTTPException, _answer_http_exception)
    routes = _Routes(app, scorer, settings)
    routes.add("/v1/rewards", REWARDS, [RewardRequest], RewardAnswer, "Score groups of responses")
    routes.add(
        "/get_reward",
        GET_REWARD,
        GET_REWARD.shapes,
        OpenRlhfAnswer | LlamaFactoryAnswer | float | None,
        "Score what OpenRLHF, slime or LLaMA-Factory sends",
    )
    for path in ("/score", "/v1/score"):
        routes.add(path, SCORE, SCORE.shapes, ScoreAnswer, "Score pairs, as vLLM does")
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        routes.add(path, RERANK, [RerankRequest], RerankAnswer, "Order documents, as vLLM and Jina do")
    _add_status_routes(app, scorer, metrics)
    describe_bodies(app, routes.bodies, has_key=settings.api_key is not None)
    paths = [*routes.handlers, "/health", "/ready", "/metrics", "/v1/models", "/docs", "/openapi.json"]
    return Gate(app, routes.handlers, settings, scorer.admission, metrics, paths)


_DESCRIPTION = "Rewards for responses, without references and without rubrics."


class _Routes:
    """Adds the routes that score."""

    def __init__(self, app: FastAPI, scorer: Scorer, settings: ServerSettings) -> None:
        self.handlers: dict[str, Handler] = {}
        self.bodies: list[type[BaseModel]] = []
        self._app = app
        self._scorer = scorer
        self._settings = settings

    def add(
        self,
        path: str,
        contract: Contract[Question],
        bodies: Sequence[type[BaseModel]],
        answer: object,
        summary: str,
    ) -> None:
        async def handle(receive: Receive, request_id: str) -> Answer:
            return await exchange(receive, request_id, contract, self._scorer, self._settings)

        async def route(request: Request) -> Response:  # for the document; the gate asks the handler itself
            answer = await handle(request.receive, request.scope["state"]["request_id"])
            return Response(answer.body, answer.status, dict(answer.headers), "application/json")

        self.handlers[path] = handle
        self.bodies += bodies
        self._app.add_api_route(
            path,
            route,
            methods=["POST"],
            response_model=None,
            summary=summary,
            operation_id=path.strip("/").replace("/", "_"),
            responses={200: {"model": answer}, **{status: {"model": ErrorAnswer} for status in _FAILURES}},
            openapi_extra=body_of(bodies),
        )


def _add_status_routes(app: FastAPI, scorer: Scorer, metrics: Metrics) -> None:
    started = int(time.time())

    @app.get("/health", summary="Is the process there?")
    async def health() -> HealthAnswer:
        return HealthAnswer(status="ok")

    @app.get("/ready", summary="Does the model answer?", responses={503: {"model": ReadyAnswer}})
    async def ready(response: Response) -> ReadyAnswer:
        answers = await scorer.health.check()
        response.status_code = 200 if answers else 503
        return ReadyAnswer(ready=answers)

    @app.get("/metrics", summary="For Prometheus", response_class=Response)
    async def read_metrics() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", summary="The model behind the reward")
    async def models() -> ModelsAnswer:
        model = ModelOut(
            id=scorer.reward.engine.model, created=started, owned_by="flip-reward", reward=scorer.reward_name
        )
        return ModelsAnswer(data=[model])


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for nothing else
    problem = Problem.WRONG_METHOD if error.status_code == 405 else Problem.NOT_FOUND
    failure = ApiError(error.status_code, problem, f"{request.method} {_shown(request)}: {error.detail}")
    headers = {**failure.headers, **(error.headers or {})}
    body = failure.body(request.scope["state"]["request_id"])
    return Response(body, failure.status, headers, "application/json")


def _shown(request: Request) -> str:
    path = request.url.path
    return path if path.isprintable() and len(path) < 100 else "this path"
