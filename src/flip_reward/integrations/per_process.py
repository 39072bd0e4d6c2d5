"""`OncePerProcess`: something expensive that a process makes once, when it is first needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class OncePerProcess(Generic[T]):
    """Calls a function once in each process and gives its result to everybody, as `functools.cache` does for one.

    Threads that come at once wait for the first of them, so that a model is not loaded twice. A forked process makes
    its own: threads and connections do not survive a fork. A call that fails is made again by the next caller.

    Args:
        make: What to call.

    Example:
        >>> made = []
        >>> once = OncePerProcess(lambda: made.append("model") or len(made))
        >>> once(), once(), made
        (1, 1, ['model'])
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._places: dict[int, _Place[T]] = {}

    def __call__(self) -> T:
        """Return the result, and make it before where this process has none."""
        # `setdefault` is a single step. A lock here could be held by another thread at the moment of a fork, and the
        # new process would wait for it for ever.
        place = self._places.setdefault(os.getpid(), _Place())
        with place.lock:
            if not place.made:
                place.made.append(self._make())
            return place.made[0]

    def forget(self) -> list[T]:
        """Let the next call of this process make it anew.

        Returns:
            What was made so far, one thing or nothing, so that it can be closed.
        """
        place = self._places.pop(os.getpid(), None)
        return place.made if place else []


class _Place(Generic[T]):
    """Where one process keeps its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[T] = []
