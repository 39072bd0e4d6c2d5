"""All attacks by name, and those that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from types import MappingProxyType

from flip_reward.audit.attacks.base import Attack

_FAMILIES: Sequence[Sequence[Attack]] = ()

ATTACKS = MappingProxyType({attack.name: attack for attack in chain.from_iterable(_FAMILIES)})
"""Name -> attack, a family after the other."""
