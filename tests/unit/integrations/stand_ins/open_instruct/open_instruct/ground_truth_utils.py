"""The base class of verifiers, and how they are collected and called."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass
class VerificationResult:
    score: float
    cost: float = 0.0
    reasoning: str | None = None


@dataclass
class VerifierConfig:
    @classmethod
    def from_args(cls, *_arg_sources: object) -> VerifierConfig:
        return cls()


class VerifierFunction(ABC):
    def __init__(self, name: str, weight: float = 1.0, verifier_config: VerifierConfig | None = None) -> None:
        self.name = name
        self.weight = weight
        self.verifier_config = verifier_config

    @classmethod
    def get_config_class(cls) -> type[VerifierConfig]:
        return VerifierConfig

    @abstractmethod
    def __call__(self, tokenized_prediction: list[int], prediction: str, label: Any) -> VerificationResult: ...


def build_all_verifiers(args: object, streaming_config: object = None) -> dict[str, Any]:
    verifiers = {}
    for subclass in VerifierFunction.__subclasses__():
        instance: Any = subclass(subclass.get_config_class().from_args(args, streaming_config))  # type: ignore[arg-type]
        verifiers[instance.name.lower()] = instance
    return verifiers


async def apply_verifiable_reward(
    reward_fn_mapping: dict[str, Any],
    responses: list[list[int]],
    decoded_responses: list[str],
    ground_truths: list[Any],
    datasets: list[str],
    reward_mult: float = 1.0,
    queries: list[str | None] | None = None,
) -> list[float]:
    tasks = [
        reward_fn_mapping[dataset.lower()].async_call(
            tokenized_prediction=tokens, prediction=prediction, label=label, query=query, rollout_state=None
        )
        for tokens, prediction, label, dataset, query in zip(
            responses, decoded_responses, ground_truths, datasets, queries or [None] * len(responses), strict=True
        )
    ]
    return [reward_mult * result.score for result in await asyncio.gather(*tasks)]
