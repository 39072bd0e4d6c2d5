"""What recipes of trainings share: fields of TRL's configurations, LoRA, and keys that were renamed."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import PydanticCustomError

from flip_reward.errors import MissingDependencyError, suggest_name
from flip_reward.redact import is_secret_field, strip_user_info
from flip_reward.rewards.options import Settings

NOT_LEARNED_FROM = frozenset(
    {
        "report_to", "run_name", "project", "logging_steps", "logging_first_step", "log_completions", "disable_tqdm",
        "num_completions_to_print", "log_unique_prompts", "save_steps", "save_strategy", "save_total_limit",
        "eval_steps", "eval_strategy", "eval_on_start", "per_device_eval_batch_size", "vllm_server_base_url",
        "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port", "ddp_timeout",
    }
)  # fmt: skip
"""Fields of TRL's configurations that may change when a training is resumed."""


class RecipePart(BaseModel):
    """A part of a recipe, or all of it. A renamed key is refused with its new name."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Keys of earlier versions, and their names now."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, values: object) -> object:
        for name in values if isinstance(values, Mapping) else ():
            if name in cls.renamed:
                places = {"old": repr(name), "new": repr(cls.renamed[name])}
                raise PydanticCustomError("renamed_key", "the key {old} is now {new}", places)
        return values


class LoraOptions(RecipePart):
    """How large the adapter is, and where it is added."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    modules: str | list[str] = "all-linear"
    """Every linear layer but the last, or names of layers."""


def check_trl_fields(config: str, values: Mapping[str, object], *, reserved: frozenset[str]) -> dict[str, object]:
    """Check values for fields of one of TRL's configurations, and return them with the types that it wants."""
    try:
        import trl
    except ImportError:
        raise MissingDependencyError("trl", extra="train") from None
    fields = getattr(trl, config)
    hints = typing.get_type_hints(fields)
    known = {field.name for field in dataclasses.fields(fields) if field.init}
    checked: dict[str, object] = {}
    for name, value in values.items():
        if name in reserved:
            raise PydanticCustomError("trl_key", "{name} follows from the rest of the recipe", {"name": repr(name)})
        if name not in known:
            suggestion = suggest_name(name, known)
            raise PydanticCustomError(
                "trl_key",
                "unknown key {name}{suggestion} (keys are the fields of TRL's {config})",
                {"name": repr(name), "suggestion": suggestion, "config": config},
            )
        _refuse_unsafe(name, value)
        checked[name] = _check_type(name, value, hints[name])
    return checked


def _refuse_unsafe(name: str, value: object) -> None:
    """Refuse foreign code and secrets: trainers keep their whole configuration in checkpoints."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unsafe(f"{name}.{key}", inner)
    elif name.rpartition(".")[2] == "trust_remote_code" and value:
        reason = "{name} would run code that comes with a model, and stays off"
        raise PydanticCustomError("trl_key", reason, {"name": repr(name)})
    elif isinstance(value, str) and is_secret_field(name.rpartition(".")[2]):
        reason = "{name} would be written down: log in with 'hf auth login' instead"
        raise PydanticCustomError("trl_key", reason, {"name": repr(name)})
    elif isinstance(value, str) and strip_user_info(value) != value:
        reason = "the password in {name} would be written down: put it into ~/.netrc instead"
        raise PydanticCustomError("trl_key", reason, {"name": repr(name)})


def _check_type(name: str, value: object, hint: Any) -> object:  # noqa: ANN401 - any annotation
    try:
        adapter: TypeAdapter[object] = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return value  # a class of another library, which looks at it itself
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        if value is False and name.endswith("_strategy"):  # so YAML reads a plain "no"
            return _check_type(name, "no", hint)
        if isinstance(value, bool) and name == "scale_rewards":
            return value  # TRL takes it, and has an annotation without it
        reason = error.errors(include_url=False)[0]["msg"]
        raise PydanticCustomError("trl_type", "{name}: {reason}", {"name": name, "reason": reason}) from None


def to_settings(values: Mapping[str, object], prefix: str = "") -> Settings:
    """Return values as settings of a manifest: plain ones as they are, others as text."""
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
    return {
        f"{prefix}{name}": value if isinstance(value, str | int | float | bool | None) else str(value)
        for name, value in plain.items()
    }
