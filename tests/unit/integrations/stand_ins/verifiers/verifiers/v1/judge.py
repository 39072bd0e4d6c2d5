"""Judges and their configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict


class SamplingConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


class JudgeConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    base_url: str = "https://api.pinference.ai/api/v1"
    api_key_var: str = "PRIME_API_KEY"
    id: str = ""
    name: str = ""
    weight: float = 1.0
    model: str = "openai/gpt-6-luna"
    sampling: SamplingConfig = SamplingConfig()
    prompt: Path | None = None


ParsedT = TypeVar("ParsedT")
ConfigT = TypeVar("ConfigT")


class Judge(Generic[ParsedT, ConfigT]):
    config_class: ClassVar[type[JudgeConfig]] = JudgeConfig

    def __init_subclass__(cls) -> None:
        [base] = [base for base in cls.__orig_bases__ if get_args(base)]  # type: ignore[attr-defined]
        cls.config_class = get_args(base)[1]

    def __init__(self, config: Any) -> None:
        self.config = config
