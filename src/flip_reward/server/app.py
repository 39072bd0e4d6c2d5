"""The application and its routes. `run.py` imports this late, because it needs Starlette."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

import orjson
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.options import PolicyOptions
from flip_reward.server.contracts.rerank import RERANK, SCORE
from flip_reward.server.contracts.rewards import REWARDS
from flip_reward.server.contracts.trainers import GET_REWARD
from flip_reward.server.docs import render_docs
from flip_reward.server.exchange import Contract, Exchange
from flip_reward.server.gate import Gate
from flip_reward.server.metrics import Metrics
from flip_reward.server.openapi import HealthAnswer, ModelOut, ModelsAnswer, ReadyAnswer, describe_api
from flip_reward.server.problems import ApiError, Problem
from flip_reward.server.scorer import Scorer
from flip_reward.server.settings import ServerSettings
from flip_reward.server.streaming import StreamingExchange

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
    exchanges = {
        path: (StreamingExchange if contract is REWARDS else Exchange)(contract, scorer, settings, reader)
        for path, contract in CONTRACTS.items()
    }
    routes = [Route(path, exchange, methods=["POST"]) for path, exchange in exchanges.items()]
    routes += _status_routes(scorer, metrics, has_key=settings.api_key is not None)
    if settings.pages is not None:
        routes += settings.pages(reward, settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await scorer.aclose()

    gate = Gate(settings, metrics, scorer.admission, routes, exchanges)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(gate.stand_before)],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )
    app.state.gate = gate
    return app


def _status_routes(scorer: Scorer, metrics: Metrics, *, has_key: bool) -> list[Route]:
    model = ModelOut(id=scorer.model, created=int(time.time()), owned_by="flip-reward", reward=scorer.reward_name)
    described = describe_api(CONTRACTS, has_key=has_key)
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

    async def one_model(request: Request) -> Response:
        asked = request.path_params["id"]
        if not asked:
            return await models(request)
        if asked != model.id:
            raise ApiError(404, Problem.NOT_FOUND, f"there is no such model; this server has {model.id}")
        return _json(model)

    async def openapi(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def docs(_request: Request) -> Response:
        return HTMLResponse(page)

    return [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", read_metrics),
        Route("/v1/models", models),
        Route("/v1/models/{id:path}", one_model),
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
