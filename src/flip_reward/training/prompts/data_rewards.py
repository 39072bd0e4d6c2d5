"""The names by which rows of training data ask for a reward."""

from __future__ import annotations

from difflib import get_close_matches
from types import MappingProxyType

from flip_reward.errors import DataError
from flip_reward.rewards.catalogue import REWARDS
from flip_reward.rewards.constant_reward import CONSTANT

DATA_REWARDS: MappingProxyType[str, str] = MappingProxyType(
    {
        "general-flip": "flip",
        "general-quality": "pointwise",
        **{f"general-{reward}": reward for reward in (*REWARDS, CONSTANT)},
    }
)
"""The names in the column "dataset", and the rewards that they stand for. Published sets have the first two."""


def resolve_data_reward(name: str, place: str = "dataset") -> str:
    """Return the reward that a name in the column "dataset" stands for.

    Args:
        name: The name.
        place: Where it stands, for the error.

    Raises:
        DataError: It is none of `DATA_REWARDS`.

    Example:
        >>> resolve_data_reward("general-quality")
        'pointwise'
    """
    if name in DATA_REWARDS:
        return DATA_REWARDS[name]
    near = get_close_matches(name, DATA_REWARDS, n=1)
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(f"unknown reward {name!r} in {place!r}{suggestion}", hint=f"known are {', '.join(DATA_REWARDS)}")
