"""`explain`: what is wrong with a body, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MOST_SHOWN = 3

_Place: TypeAlias = tuple[str | int, ...]


def explain(error: ValidationError, shapes: Sequence[type[BaseModel]] = ()) -> str:
    """Say what is wrong with a value, in one line that quotes nothing of it, for answers are written to logs.

    Where a value may be of several kinds, pydantic complains about every one of them. Told is what is wrong with the
    one that was meant: the shape most of whose fields are there, and in a field the kind that was read furthest.

    Args:
        error: What pydantic found.
        shapes: The shapes that the value may have, where there are several.

    Example:
        >>> from flip_reward.server.contracts.rewards import RewardGroup
        >>> try:
        ...     RewardGroup.model_validate({"prompt": [{"content": "Name a fruit."}], "responses": [7]})
        ... except ValidationError as error:
        ...     print(explain(error))
        prompt.0.role: Field required; responses.0: Input should be a valid string
    """
    details = error.errors(include_url=False, include_input=False, include_context=False)
    if shapes:
        shape = max(shapes, key=lambda shape: len(_fields_there(shape, details)))
        if not _fields_there(shape, details):
            return f"needed is {', or '.join(' and '.join(_required(shape)) for shape in shapes)}"
        details = [detail for detail in details if detail["loc"][0] == shape.__name__]
    found: dict[_Place, list[str]] = {}
    for detail in details:
        found.setdefault(_place(detail), []).append(_message(detail))
    deepest: dict[_Place, int] = {}
    for place in found:
        deepest[place[:1]] = max(deepest.get(place[:1], 0), len(place))
    shown = [_show(place, messages) for place, messages in found.items() if len(place) == deepest[place[:1]]]
    return "; ".join(shown[:MOST_SHOWN])


def _required(shape: type[BaseModel]) -> list[str]:
    return [name for name, field in shape.model_fields.items() if field.is_required()]


def _fields_there(shape: type[BaseModel], details: Sequence[ErrorDetails]) -> set[str]:
    """Return which of the fields are there that a shape cannot do without."""
    missing = {detail["loc"][1] for detail in details if _is_missing(detail, shape.__name__)}
    return {name for name in _required(shape) if name not in missing}


def _is_missing(detail: ErrorDetails, shape: str) -> bool:
    return detail["type"] == "missing" and detail["loc"][0] == shape and len(detail["loc"]) == 2


def _place(detail: ErrorDetails) -> _Place:
    """Return where something is wrong, without the kinds that pydantic tried there, such as "list[ChatMessage]"."""
    return tuple(step for step in detail["loc"] if isinstance(step, int) or _is_field(step))


def _is_field(step: str) -> bool:
    return step.isidentifier() and step.islower() and step not in ("str", "int")


def _message(detail: ErrorDetails) -> str:
    return "Input should be an object" if detail["type"] == "model_type" else detail["msg"]


def _show(place: _Place, messages: Sequence[str]) -> str:
    first, *others = dict.fromkeys(messages)
    message = ", or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    return f"{'.'.join(map(str, place))}: {message}" if place else message
