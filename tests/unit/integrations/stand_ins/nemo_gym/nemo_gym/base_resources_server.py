"""What agents send to `/verify` and get back, and the base class of the servers that answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ResponseCreateParams(BaseModel):
    input: str | list[dict[str, Any]]
    instructions: str | None = None


class Response(BaseModel):
    id: str
    output: list[dict[str, Any]]


class BaseResourcesServerConfig(BaseModel):
    host: str
    port: int
    entrypoint: str
    name: str


class BaseVerifyRequest(BaseModel):
    responses_create_params: ResponseCreateParams
    response: Response


class BaseVerifyResponse(BaseVerifyRequest):
    reward: float


class SimpleResourcesServer(BaseModel):
    config: BaseResourcesServerConfig
