"""The command line of this process, as sessions of manifests keep it and errors quote it."""

from __future__ import annotations

import shlex
from contextvars import ContextVar

from flip_reward.redact import mask_arguments

current_arguments: ContextVar[tuple[str, ...]] = ContextVar("current_arguments", default=())
"""What was called: the words of a command line, or the name of a function. Not masked."""


def describe_command() -> str:
    """Return the command line as a shell takes it, without secrets; empty where nobody has said what it is."""
    return shlex.join(mask_arguments(current_arguments.get()))
