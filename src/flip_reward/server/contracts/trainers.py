"""`POST /get_reward`, where several trainers ask, each in its own shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from pydantic import TypeAdapter

from flip_reward.server.contracts import llama_factory, openrlhf, slime
from flip_reward.server.contracts.llama_factory import LlamaFactoryRequest
from flip_reward.server.contracts.openrlhf import OpenRlhfRequest
from flip_reward.server.contracts.slime import SlimeRequest
from flip_reward.server.exchange import Context, Contract
from flip_reward.server.scorer import Result, Row

TrainerRequest: TypeAlias = OpenRlhfRequest | SlimeRequest | LlamaFactoryRequest


def _to_rows(request: TrainerRequest, context: Context) -> list[Row]:
    if isinstance(request, OpenRlhfRequest):
        return openrlhf.to_rows(request, context)
    if isinstance(request, LlamaFactoryRequest):
        return llama_factory.to_rows(request, context)
    return slime.to_rows(request)


def _to_answer(request: TrainerRequest, results: Sequence[Result], context: Context) -> object:
    if isinstance(request, OpenRlhfRequest):
        return openrlhf.to_answer(request, results, context)
    if isinstance(request, LlamaFactoryRequest):
        return llama_factory.to_answer(request, results, context)
    return slime.to_answer(results, context)


GET_REWARD: Contract[TrainerRequest] = Contract(
    TypeAdapter(TrainerRequest), _to_rows, _to_answer, (OpenRlhfRequest, SlimeRequest, LlamaFactoryRequest)
)
"""The contract of `/get_reward`: which trainer asks is told by the fields."""
