"""Options from environment variables, for programs that can only name a function."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from flip_reward.errors import OptionError

Options = TypeVar("Options", bound=BaseModel)


def read_environment(
    model: type[Options], environment: Mapping[str, str], prefix: str, *, others: str | None = None
) -> Options:
    """Read options, each from the variable of the prefix and its name in capitals. Empty ones count as not set.

    Args:
        model: What the options have to be.
        environment: For example `os.environ`.
        prefix: What the variables begin with.
        others: A longer prefix, of variables that are left to somebody else.

    Raises:
        OptionError: A variable is misspelt or has a wrong value.
    """
    chosen: dict[str, str] = {}
    for variable, value in environment.items():
        if not value or not variable.startswith(prefix) or (others and variable.startswith(others)):
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in model.model_fields:
            near = get_close_matches(name, model.model_fields, n=1)
            suggestion = f"; did you mean {prefix}{near[0].upper()}?" if near else ""
            raise OptionError(f"unknown environment variable {variable}{suggestion}")
        chosen[name] = value
    try:
        return model.model_validate(chosen)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = f"{prefix}{str(first['loc'][0]).upper()}: " if first["loc"] else ""
        raise OptionError(f"{place}{first['msg'].removeprefix('Value error, ')}") from error
