"""Prints the path of the file for a trainer: `python -m flip_reward.integrations NAME`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

FILES = MappingProxyType({"ms_swift": "ms_swift/flip_reward_plugin.py", "openrlhf": "openrlhf.py"})


def find(arguments: Sequence[str]) -> Path:
    """Return the path of the file for a trainer, without importing it.

    Example:
        >>> find(["openrlhf"]).name
        'openrlhf.py'
    """
    name = arguments[0].replace("-", "_").lower() if arguments else ""
    if len(arguments) != 1 or name not in FILES:
        raise SystemExit(f"name one of {', '.join(FILES)}")
    return Path(__file__).resolve().parent / FILES[name]


if __name__ == "__main__":
    print(find(sys.argv[1:]))  # noqa: T201
