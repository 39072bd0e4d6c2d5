"""Tasks, traces, and how a task scores a trace."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from pydantic import BaseModel, ConfigDict

from verifiers.v1.configs.task import TaskConfig, judge_class
from verifiers.v1.judge import Judge, JudgeConfig
from verifiers.v1.types import AssistantMessage, Message

__all__ = ["AgentConfig", "AgentInfo", "Judge", "JudgeConfig", "Task", "TaskData", "Trace", "TraceTask"]


class TaskError(Exception):
    """Task-authored code raised."""


class TaskData(BaseModel):
    model_config = ConfigDict(frozen=True)

    prompt: str | list[Message] | None = None
    system_prompt: str | None = None


class AgentConfig(BaseModel):
    pass


class AgentInfo(BaseModel):
    config: AgentConfig


class TraceTask(BaseModel):
    type: str
    data: TaskData


class MessageNode(BaseModel):
    parent: int | None = None
    message: Message
    sampled: bool = False


class Reward(BaseModel):
    score: float
    weight: float


class Trace(BaseModel):
    task: TraceTask
    agent: AgentInfo
    nodes: list[MessageNode] = []
    root_reply: str | None = None
    rewards: dict[str, Reward | None] = {}

    @property
    def messages(self) -> list[Message]:
        return [node.message for node in self.nodes]

    @property
    def last_reply(self) -> str:
        if self.root_reply is not None:
            return self.root_reply.strip()
        said = [node.message for node in self.nodes if node.sampled and isinstance(node.message, AssistantMessage)]
        return (said[-1].content or "").strip() if said else ""


class Task:
    def __init__(self, data: TaskData, config: TaskConfig) -> None:
        self.data = data
        self.config = config

    async def score(self, trace: Trace) -> None:
        available: dict[str, Any] = {"task": self.data, "trace": trace}
        signals: list[tuple[str, Any, float]] = []
        for name, plugged in self.config.rewards.items():
            module, _, function = plugged.fn.rpartition(":")
            signals.append((name, getattr(importlib.import_module(module), function), plugged.weight))
        for config in self.config.judges:
            judge = judge_class(config.id)(config)
            signals.append((config.name or config.id, judge.score, config.weight))
        for name, function, weight in signals:
            trace.rewards[name] = None
            wanted = {key: available[key] for key in inspect.signature(function).parameters if key in available}
            try:
                value = float(await function(**wanted))
            except Exception as error:
                raise TaskError(f"task scoring: {type(error).__name__}: {error}") from error
            trace.rewards[name] = Reward(score=value, weight=weight)
