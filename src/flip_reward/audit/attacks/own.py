"""A user's own attack: a function, or an `Attack`, by its dotted name."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from functools import wraps
from inspect import isclass
from typing import TypeVar

from flip_reward.audit.attacks.base import Attack, AttackFunction, Carrier, Effect
from flip_reward.errors import OptionError
from flip_reward.rewards.function import USER_ERRORS, check_signature, describe_error, import_named

FAMILY = "own"
"""The family of functions that users name."""
_FORM = "def attack(instruction: str, response: str, seed: int) -> str"
_Kind = TypeVar("_Kind", bound=StrEnum)


def load_own(name: str) -> Attack:
    """Return the attack that `module:function` or `module.function` names; modules of the working folder are found.

    A function is called own.FUNCTION. It is an exploit of a response to the same prompt, unless it has attributes
    `effect` or `carrier` that say otherwise. An `Attack` is taken as it is. What raises, or returns no text, ends the
    audit with an `OptionError`.

    Raises:
        OptionError: There is none of this name, it is neither a function nor an `Attack`, or it cannot be called with
            an instruction, a response and a seed.
    """
    return make_own(import_named(name), name)


def make_own(found: object, name: str) -> Attack:
    """Make an attack of what is given in Python, or was found by a name; see `load_own`."""
    if isinstance(found, Attack):
        _check(found.function, found.name)
        return replace(found, function=_guard(found.name, found.function))
    if not callable(found) or isclass(found):
        raise OptionError(
            f"{name!r} is neither a function nor an Attack",
            hint=f"write {_FORM}",
        )
    _check(found, name)
    own = f"{FAMILY}.{getattr(found, '__name__', None) or name.replace(':', '.').rpartition('.')[2]}"
    effect = _read(name, "effect", getattr(found, "effect", Effect.EXPLOIT), Effect)
    carrier = _read(name, "carrier", getattr(found, "carrier", Carrier.OWN), Carrier)
    return Attack(own, effect, _guard(own, found), carrier)


def _check(function: AttackFunction, name: str) -> None:
    check_signature(function, repr(name), "instruction", "response", "seed", form=_FORM)


def _read(name: str, field: str, value: object, kind: type[_Kind]) -> _Kind:
    try:
        return kind(str(value))
    except ValueError:
        raise OptionError(f"the {field} of {name!r} is {value!r}", hint=f"it is one of {', '.join(kind)}") from None


def _guard(name: str, function: AttackFunction) -> AttackFunction:
    """Make one clear error of whatever somebody's function does wrong.

    The first text is made twice: with texts that change by themselves no audit could go on where it stopped.
    """
    tried = False

    @wraps(function)
    def attack(instruction: str, response: str, seed: int) -> str:
        nonlocal tried
        try:
            text: object = function(instruction, response, seed)
            changes = not tried and function(instruction, response, seed) != text
        except USER_ERRORS as error:
            raise OptionError(f"the attack {name!r} failed: {describe_error(error)}") from error
        if not isinstance(text, str):
            raise OptionError(f"the attack {name!r} returned {type(text).__name__}, which is no text")
        if changes:
            raise OptionError(
                f"the attack {name!r} makes another text each time it is called",
                hint="let its chance depend on its seed, as random.Random(seed) does",
            )
        tried = True
        return text

    return attack
