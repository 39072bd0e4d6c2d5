"""What is plugged into a task: functions by their import path, judges by their id."""

from __future__ import annotations

import importlib
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializeAsAny, model_validator

from verifiers.v1.judge import Judge, JudgeConfig


def judge_class(judge_id: str) -> type[Judge[Any, Any]]:
    module = importlib.import_module(judge_id.rsplit("/", 1)[-1].split("@", 1)[0].replace("-", "_").lower())
    exported = [getattr(module, name) for name in module.__all__]
    [found] = [value for value in exported if isinstance(value, type) and issubclass(value, Judge)]
    return found


class RewardFunctionConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    fn: str
    weight: float = 1.0


class TaskConfig(BaseModel):
    judges: list[SerializeAsAny[JudgeConfig]] = []
    rewards: dict[str, RewardFunctionConfig] = {}

    @model_validator(mode="before")
    @classmethod
    def _resolve_judges(cls, data: dict[str, Any]) -> dict[str, Any]:
        judges = [judge_class(entry["id"]).config_class.model_validate(entry) for entry in data.get("judges", [])]
        return {**data, "judges": judges}
