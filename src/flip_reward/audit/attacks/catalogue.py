"""All attacks by name, and those that a user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType

from flip_reward.audit.attacks.base import Attack, AttackFunction
from flip_reward.audit.attacks.broken import BROKEN
from flip_reward.audit.attacks.copying import COPYING
from flip_reward.audit.attacks.injection import INJECTION
from flip_reward.audit.attacks.kept import KEPT
from flip_reward.audit.attacks.keys import KEYS
from flip_reward.audit.attacks.length import LENGTH
from flip_reward.audit.attacks.own import load_own, make_own
from flip_reward.audit.attacks.refusal import REFUSAL
from flip_reward.audit.attacks.style import STYLE
from flip_reward.errors import OptionError, suggest_name

_FAMILIES: Sequence[Sequence[Attack]] = (COPYING, KEYS, INJECTION, REFUSAL, STYLE, LENGTH, KEPT, BROKEN)

ATTACKS: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in chain.from_iterable(_FAMILIES)})
"""Name -> attack, a family after the other."""
FAMILIES = tuple(dict.fromkeys(attack.family for attack in ATTACKS.values()))
"""The names of the families."""


def find_attacks(names: Sequence[str | Attack | AttackFunction] = ()) -> list[Attack]:
    """Return the attacks of some names, each once: a name, a family, or a function of the user's (`own.load_own`).

    In Python the function itself, or an `Attack`, may stand in place of a name.

    Without names all of `ATTACKS` are returned.

    Raises:
        OptionError: There is no such attack, or two have one name.

    Example:
        >>> [attack.name for attack in find_attacks(["length", "key.colon", "length.repeated"])]
        ['length.padding_2', 'length.padding_4', 'length.repeated', 'key.colon']
    """
    found: dict[str, Attack] = {}
    for attack in chain.from_iterable(_find(name) for name in dict.fromkeys(names or FAMILIES)):
        if found.setdefault(attack.name, attack) is not attack:
            raise OptionError(f"two attacks are called {attack.name!r}", hint="rename your function")
    return list(found.values())


def _find(name: str | Attack | AttackFunction) -> list[Attack]:
    if not isinstance(name, str):
        return [make_own(name, getattr(name, "__name__", type(name).__name__))]
    found = [attack for attack in ATTACKS.values() if name in (attack.name, attack.family)]
    if found:
        return found
    suggestion = suggest_name(name.lower(), [*ATTACKS, *FAMILIES])
    if ":" not in name and name.partition(".")[0] in ("", name, *FAMILIES):
        hint = f"attacks are of the families {', '.join(FAMILIES)}, or module:function"
        raise OptionError(f"unknown attack {name!r}{suggestion}", hint=hint)
    try:
        return [load_own(name)]
    except OptionError as error:
        raise OptionError(f"{error}{suggestion}", hint=error.hint) from error
