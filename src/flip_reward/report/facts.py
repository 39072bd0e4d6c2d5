"""How something was made, as names and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flip_reward.scoring.manifest import Session


@dataclass(frozen=True, slots=True)
class Facts:
    """A titled list of names and values."""

    title: str
    rows: list[tuple[str, str]]


def list_facts(title: str, values: Mapping[str, object]) -> Facts:
    """Spell values for people."""
    rows = []
    for name, value in values.items():
        spelled = "none" if value is None else ("no", "yes")[value] if isinstance(value, bool) else str(value)
        rows.append((name, spelled))
    return Facts(title, rows)


def describe_software(sessions: Sequence[Session]) -> Facts:
    """Say when something was made, and with which versions."""
    if not sessions:
        return Facts("Software", [])
    started = sorted([session.started_at for session in sessions])
    values = {"first session": started[0], "last session": started[-1], "sessions": str(len(sessions))}
    seen: dict[str, dict[str, None]] = {}  # dicts as ordered sets
    for session in sessions:
        for name, value in {"Python": session.python, "platform": session.platform, **session.versions}.items():
            seen.setdefault(name, {})[value] = None
    return Facts("Software", [*values.items(), *((name, ", ".join(found)) for name, found in seen.items())])
