"""`FunctionReward`: a function of the user's as a reward: given in Python, by a dotted name or by an entry point."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import math
import re
import reprlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias

from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.engines.stopping import current_stop
from flip_reward.errors import OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.options import ResponseOptions, Settings, record_options
from flip_reward.rewards.waiting import gather_all

RewardFunction: TypeAlias = Callable[[str, str], float | Awaitable[float | None] | None]
"""(prompt, response) -> a number, the higher the better, or None where there is none."""

USER_ERRORS = (Exception, SystemExit)
"""What code of the user's may raise, where that is to be told. SystemExit would end the whole command in silence."""
_LONGEST_ERROR = 300
_FORM = "def score(prompt: str, response: str) -> float | None"
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@cache
def installed_functions() -> Mapping[str, str]:
    """Return the functions that installed packages offer: entry points of the group `flip_reward.rewards`."""
    return {one.name: one.value for one in entry_points(group="flip_reward.rewards")}


def is_function_name(name: str) -> bool:
    """Whether a text has the form "package.module:function", or is the name of an installed function."""
    return _DOTTED.fullmatch(name) is not None or name in installed_functions()


def import_named(name: str) -> object:
    """Import what `module:name` or `module.name` names; modules in the current folder are found, as by `python -m`.

    Raises:
        OptionError: There is nothing of this name, or its module cannot be imported.

    Example:
        >>> import_named("math:sqrt")(9)
        3.0
    """
    module, _, path = name.partition(":") if ":" in name else name.rpartition(".")
    if not (module and path) or module.startswith("."):
        raise OptionError(f"{name!r} names no function", hint="write module:function")
    folder = str(Path.cwd())
    if not {"", folder}.intersection(sys.path):
        sys.path.insert(0, folder)
    try:
        found: object = import_module(module)
    except USER_ERRORS as error:
        raise OptionError(f"cannot import {module!r}: {describe_error(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise OptionError(f"{module!r} has no {path!r}", hint="write module:function")
        found = getattr(found, part)
    return found


def describe_error(error: BaseException) -> str:
    """Say in a short line what somebody's code raised.

    Example:
        >>> describe_error(ValueError("no such fruit")), describe_error(ValueError())
        ('ValueError: no such fruit', 'ValueError')
    """
    try:
        said = str(error).strip().partition("\n")[0]
    except Exception:  # noqa: BLE001 - an exception of somebody's own may fail even there
        said = ""
    return f"{type(error).__name__}: {said[:_LONGEST_ERROR]}" if said else type(error).__name__


def check_signature(function: Callable[..., object], name: str, *arguments: str, form: str) -> None:
    """Refuse a function that cannot be called with these arguments, one after the other.

    One whose signature cannot be read, as of some that are written in C, passes.

    Args:
        function: Somebody's function.
        name: What the user calls it.
        arguments: What it will be given.
        form: How it may be written.

    Example:
        >>> check_signature(lambda response: 1.0, "my:one", "prompt", "response", form="score(prompt, response)")
        Traceback (most recent call last):
        flip_reward.errors.OptionError: my:one cannot be called with (prompt, response): too many positional arguments
        hint: write it as score(prompt, response)
    """
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # of what is called, whatever it wraps
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        called = f"{name} cannot be called with ({', '.join(arguments)})"
        raise OptionError(f"{called}: {error}", hint=f"write it as {form}") from None


class FunctionReward(RewardModel):
    """What a function makes of a prompt and a response.

    It is called with the instruction, which is the last user message, and with the visible answer, each response on
    its own. What is no number, such as None and NaN, leaves a response unscored, and so does an exception, after
    which a resumed run asks again. Coroutines wait at the same time; a plain function holds up everything else while
    it computes, and has no limit in time.

    Args:
        function: The function, plain or async.
        response: What is read of a response.
        name: What the reward is called; by default module and name of the function.
        timeout_seconds: How long a coroutine may take.

    Raises:
        OptionError: It is no function, or cannot be called with a prompt and a response.

    Example:
        >>> from flip_reward import Group
        >>> def brevity(prompt: str, response: str) -> float | None:
        ...     return 1 / len(response.split()) if prompt else None
        >>> [[score]] = FunctionReward(brevity).score_sync([Group.of("Say hi.", ["Hi you!"])])
        >>> score.value
        0.5
    """

    def __init__(
        self,
        function: RewardFunction,
        response: ResponseOptions | None = None,
        *,
        name: str | None = None,
        timeout_seconds: float = 600.0,
    ) -> None:
        given: object = function
        called = repr(name or (_name(function) if callable(given) else given))
        if not callable(given) or inspect.isclass(given):
            kind = "a class" if inspect.isclass(given) else type(given).__name__
            raise OptionError(f"{called} is no function, but {kind}", hint=f"write {_FORM}")
        check_signature(function, called, "prompt", "response", form=_FORM)
        self._function = function
        self._name = name or _name(function)
        self._timeout = timeout_seconds
        self.response_options = response or ResponseOptions()

    @classmethod
    def load(cls, name: str, response: ResponseOptions | None = None) -> FunctionReward:
        """Import "package.module:function", or the function of an entry point; an OptionError where that fails."""
        return cls(import_named(installed_functions().get(name, name)), response, name=name)  # type: ignore[arg-type]

    @property
    def settings(self) -> Settings:
        """The name, and a hash of the function's source where that can be read: another source is another reward."""
        try:
            source = inspect.getsource(inspect.unwrap(self._function))
        except (OSError, TypeError):
            hashed = {}
        else:
            hashed = {"sha256": hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()}
        return {"reward": self._name, **hashed, **record_options(self.response_options, (), ())}

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Call the function for every response."""
        return tuple(await gather_all(self._score(target.instruction, response) for response in group.responses))

    async def _score(self, instruction: str, response: str) -> Score:
        answer = self.visible_answer(response)
        if isinstance(answer, Outcome):
            return Score(None, answer)
        if stop := current_stop.get():
            stop.check()
        try:
            given = self._function(instruction, answer)
            found = await asyncio.wait_for(given, self._timeout) if inspect.isawaitable(given) else given
        except USER_ERRORS as error:
            detail = f"{self._name} raised {describe_error(error)}"
            return Score(None, Outcome.ENGINE_FAILURE, detail=detail, cost=_CALLED)
        value = _read_number(found)
        if value is None:
            detail = f"{self._name} returned {reprlib.repr(found)}"
            return Score(None, Outcome.UNDEFINED_VALUE, detail=detail, cost=_CALLED)
        return Score(value, Outcome.SCORED, cost=_CALLED)


def _read_number(found: object) -> float | None:
    """Read what a function returned, also as numpy and torch have numbers; None where it is none."""
    try:
        value = math.nan if isinstance(found, str | bytes) else float(found)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - whatever somebody's `__float__` raises
        return None
    return value if math.isfinite(value) else None


_CALLED = Cost(attempts=1)  # so that a run ends where the function fails again and again


def _name(function: RewardFunction) -> str:
    named = inspect.unwrap(function)
    kind = named if hasattr(named, "__qualname__") else type(named)
    return f"{kind.__module__}:{kind.__qualname__}"
