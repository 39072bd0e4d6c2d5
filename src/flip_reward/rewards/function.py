"""`FunctionReward`: a function of the user's as a reward, given in Python or by its dotted name."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.errors import OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.options import ResponseOptions, Settings, record_options
from flip_reward.rewards.waiting import gather_all

RewardFunction: TypeAlias = Callable[[str, str], float | Awaitable[float | None] | None]
"""(prompt, response) -> a number, the higher the better, or None where there is none."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_function_name(name: str) -> bool:
    """Whether a text has the form "package.module:function"."""
    return _DOTTED.fullmatch(name) is not None


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
    except Exception as error:  # whatever the user's module raises
        raise OptionError(f"cannot import {module!r}: {describe_error(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise OptionError(f"{module!r} has no {path!r}", hint="write module:function")
        found = getattr(found, part)
    return found


def describe_error(error: Exception) -> str:
    """Say in a line what somebody's code raised."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


class FunctionReward(RewardModel):
    """What a function makes of a prompt and a response.

    It is called with the instruction, which is the last user message, and with the visible answer, each response on
    its own. None and NaN leave a response unscored, and so does an exception, after which a resumed run asks again.
    Coroutines wait at the same time; a plain function holds up everything else while it computes.

    Args:
        function: The function, plain or async.
        response: What is read of a response.
        name: What the reward is called; by default module and name of the function.

    Example:
        >>> from flip_reward import Group
        >>> def brevity(prompt: str, response: str) -> float | None:
        ...     return 1 / len(response.split()) if prompt else None
        >>> [[score]] = FunctionReward(brevity).score_sync([Group.of("Say hi.", ["Hi you!"])])
        >>> score.value
        0.5
    """

    def __init__(
        self, function: RewardFunction, response: ResponseOptions | None = None, *, name: str | None = None
    ) -> None:
        self._function = function
        self._name = name or _name(function)
        self.response_options = response or ResponseOptions()

    @classmethod
    def load(cls, name: str, response: ResponseOptions | None = None) -> FunctionReward:
        """Import the function "package.module:function"; an OptionError where that fails."""
        found = import_named(name)
        if not callable(found):
            raise OptionError(f"{name!r} is no function, but {type(found).__name__}")
        return cls(found, response, name=name)

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
        try:
            given = self._function(instruction, answer)
            found = await given if inspect.isawaitable(given) else given
            value = None if found is None else float(found)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises
            detail = f"{self._name} raised {describe_error(error)}"
            return Score(None, Outcome.ENGINE_FAILURE, detail=detail, cost=_CALLED)
        if value is None or not math.isfinite(value):
            return Score(None, Outcome.UNDEFINED_VALUE, detail=f"{self._name} returned {value}", cost=_CALLED)
        return Score(value, Outcome.SCORED, cost=_CALLED)


_CALLED = Cost(attempts=1)  # so that a run ends where the function fails again and again


def _name(function: RewardFunction) -> str:
    named = inspect.unwrap(function)
    kind = named if hasattr(named, "__qualname__") else type(named)
    return f"{kind.__module__}:{kind.__qualname__}"
