"""A user's own attack: a function, or an `Attack`, by its dotted name."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from functools import wraps
from importlib import import_module
from inspect import isclass
from pathlib import Path
from typing import TypeVar

from flip_reward.audit.attacks.base import Attack, AttackFunction, Carrier, Effect
from flip_reward.errors import OptionError

FAMILY = "own"
"""The family of functions that users name."""
_Kind = TypeVar("_Kind", bound=StrEnum)


def load_own(name: str) -> Attack:
    """Return the attack that `module:function` or `module.function` names; modules of the working folder are found.

    A function is called own.FUNCTION. It is an exploit of a response to the same prompt, unless it has attributes
    `effect` or `carrier` that say otherwise. An `Attack` is taken as it is. What raises, or returns no text, ends the
    audit with an `OptionError`.

    Raises:
        OptionError: There is none of this name, or it is neither a function nor an `Attack`.
    """
    found = _import(name)
    if isinstance(found, Attack):
        return replace(found, function=_guard(found.name, found.function))
    if not callable(found) or isclass(found):
        raise OptionError(
            f"{name!r} is neither a function nor an Attack",
            hint="an attack is a function of an instruction, a response and a seed that returns a text",
        )
    own = f"{FAMILY}.{getattr(found, '__name__', None) or name.replace(':', '.').rpartition('.')[2]}"
    effect = _read(name, "effect", getattr(found, "effect", Effect.EXPLOIT), Effect)
    carrier = _read(name, "carrier", getattr(found, "carrier", Carrier.OWN), Carrier)
    return Attack(own, effect, _guard(own, found), carrier)


def _import(name: str) -> object:
    module, _, path = name.partition(":") if ":" in name else name.rpartition(".")
    if not (module and path) or module.startswith("."):
        raise OptionError(f"{name!r} names no function", hint="write module:function")
    folder = str(Path.cwd())
    if not {"", folder}.intersection(sys.path):
        sys.path.append(folder)
    try:
        found: object = import_module(module)
    except Exception as error:  # whatever the user's module raises
        raise OptionError(f"cannot import {module!r}: {_describe(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise OptionError(f"{module!r} has no {path!r}", hint="write module:function")
        found = getattr(found, part)
    return found


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _read(name: str, field: str, value: object, kind: type[_Kind]) -> _Kind:
    try:
        return kind(str(value))
    except ValueError:
        raise OptionError(f"the {field} of {name!r} is {value!r}", hint=f"it is one of {', '.join(kind)}") from None


def _guard(name: str, function: AttackFunction) -> AttackFunction:
    """Make one clear error of whatever somebody's function does wrong."""

    @wraps(function)
    def attack(instruction: str, response: str, seed: int) -> str:
        try:
            text: object = function(instruction, response, seed)
        except Exception as error:
            raise OptionError(f"the attack {name!r} failed: {_describe(error)}") from error
        if not isinstance(text, str):
            raise OptionError(f"the attack {name!r} returned {type(text).__name__}, which is no text")
        return text

    return attack
