"""The fields of TRL's GRPOConfig, as the installed version has them: which there are, and what they hold."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import PydanticCustomError

from flip_reward.errors import MissingDependencyError
from flip_reward.redact import is_secret_field, strip_user_info

OURS = frozenset({"output_dir", "resume_from_checkpoint", "remove_unused_columns", "reward_weights"})
"""What follows from the rest of a recipe."""


def check_grpo_fields(values: Mapping[str, object]) -> dict[str, object]:
    """Check values for fields of GRPOConfig, and return them with the types that it wants.

    Raises:
        PydanticCustomError: There is no such field (it names the nearest one), it takes another type, it holds a key
            or a password, or it would run code of a model.
        MissingDependencyError: TRL is not installed.
    """
    try:
        from trl import GRPOConfig
    except ImportError:
        raise MissingDependencyError("trl", extra="train") from None
    hints = typing.get_type_hints(GRPOConfig)
    known = {field.name for field in dataclasses.fields(GRPOConfig) if field.init}
    checked: dict[str, object] = {}
    for name, value in values.items():
        if name in OURS:
            raise PydanticCustomError("grpo_key", "{name} follows from the rest of the recipe", {"name": repr(name)})
        if name not in known:
            near = get_close_matches(name, known, n=1)
            suggestion = f"; did you mean {near[0]!r}?" if near else ""
            raise PydanticCustomError(
                "grpo_key",
                "unknown key {name}{suggestion} (keys are the fields of TRL's GRPOConfig)",
                {"name": repr(name), "suggestion": suggestion},
            )
        _refuse_unsafe(name, value)
        checked[name] = _check_type(name, value, hints[name])
    return checked


def _refuse_unsafe(name: str, value: object) -> None:
    """Refuse code of others, and what no checkpoint should hold: trainers keep their whole configuration there."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unsafe(f"{name}.{key}", inner)
    elif name.rpartition(".")[2] == "trust_remote_code" and value:
        reason = "{name} would run code that comes with a model, and stays off"
        raise PydanticCustomError("grpo_key", reason, {"name": repr(name)})
    elif isinstance(value, str) and is_secret_field(name.rpartition(".")[2]):
        reason = "{name} would be written down: log in with 'hf auth login' instead"
        raise PydanticCustomError("grpo_key", reason, {"name": repr(name)})
    elif isinstance(value, str) and strip_user_info(value) != value:
        reason = "the password in {name} would be written down: put it into ~/.netrc instead"
        raise PydanticCustomError("grpo_key", reason, {"name": repr(name)})


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
        reason = error.errors(include_url=False)[0]["msg"]
        raise PydanticCustomError("grpo_type", "{name}: {reason}", {"name": name, "reason": reason}) from None
