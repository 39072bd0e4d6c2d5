"""`EngineKind`: the kinds of engines, and which options belong to which."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from types import MappingProxyType


class EngineKind(StrEnum):
    """A way to reach a language model."""

    SERVER = "models of a server"
    EMBEDDED = "models that llama.cpp runs in this process"
    TRANSFORMERS = "models that transformers runs in this process"
    SCRIPTED = "the scripted model"

    def find_foreign(self, options: Iterable[str]) -> list[str]:
        """Return those of some options of `EngineConfig` that have no effect here.

        The scripted model takes them all: it stands in for any other, to try a command without one.

        Example:
            >>> EngineKind.SERVER.find_foreign(["concurrency", "extra_body", "dtype"])
            ['dtype']
        """
        if self is EngineKind.SCRIPTED:
            return []
        return [name for name in options if self not in _OWNERS.get(name, (self,))]


def name_owners(option: str) -> str:
    """Say whose option it is.

    Example:
        >>> name_owners("threads")
        'models that llama.cpp runs in this process'
    """
    return " and ".join(_OWNERS[option])


_IN_PROCESS = (EngineKind.EMBEDDED, EngineKind.TRANSFORMERS)

_OWNERS = MappingProxyType(
    {
        "base_url": (EngineKind.SERVER,),
        "timeout_seconds": (EngineKind.SERVER,),
        "extra_body": (EngineKind.SERVER,),
        "logprobs_api": (EngineKind.SERVER,),
        "slots": (EngineKind.EMBEDDED,),
        "threads": (EngineKind.EMBEDDED,),
        "context_tokens": _IN_PROCESS,
        "dtype": (EngineKind.TRANSFORMERS,),
        "device": (EngineKind.TRANSFORMERS,),
        "batch_tokens": (EngineKind.TRANSFORMERS,),
    }
)
"""All other options have their effect with every kind."""
