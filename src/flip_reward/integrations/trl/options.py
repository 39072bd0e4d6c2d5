"""The options of the reward inside TRL's trainers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from flip_reward.errors import OptionError
from flip_reward.rewards.unscored import NONE, UnscoredPolicy
from flip_reward.settings import read_environment

_PREFIX = "FLIP_REWARD_ON_"
_LONGEST_REST = 16
_RENAMED = {
    "TRUNCATED": "MASK_TRUNCATED_COMPLETIONS",
    "PAUSE_SECONDS": "OUTAGE_POLL_SECONDS",
    "PATIENCE_SECONDS": "OUTAGE_TIMEOUT_SECONDS",
}


def _read_policy(value: object) -> object:
    return UnscoredPolicy.parse(value) if isinstance(value, str | float | int) else value


def _read_list(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


class TrlOptions(BaseModel):
    """How a reward behaves inside a trainer.

    Example:
        >>> options = TrlOptions.from_environment(
        ...     {
        ...         "FLIP_REWARD_ON_MASK_TRUNCATED_COMPLETIONS": "true",
        ...         "FLIP_REWARD_ON_MAX_COMPLETION_LENGTH": "512",
        ...     }
        ... )
        >>> options.masks([5] * 512), options.masks([5] * 100)
        (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unscored: Annotated[UnscoredPolicy, BeforeValidator(_read_policy)] = NONE
    """What TRL gets for a sample that could not be scored. None is best: TRL leaves it out of the baseline."""
    mask_truncated_completions: bool = False
    """A completion that ended at the token limit has no reward, and counts for nothing in its group's baseline.
    The model is not asked about it."""
    max_completion_length: int | None = Field(default=None, ge=1)
    """The trainer's option of this name: TRL tells a reward the tokens but not their limit."""
    end_tokens: Annotated[frozenset[int], BeforeValidator(_read_list)] = frozenset()
    """Tokens that end a completion; one that has them at the limit is whole."""
    stop_strings: Annotated[frozenset[str], BeforeValidator(_read_list)] = frozenset()
    """Where the trainer stops generation; a completion that ends with one of these strings at the limit is whole."""
    num_generations: int | None = Field(default=None, ge=1)
    """The trainer's option of this name. Rewards that compare responses need it, to see that a group is whole."""
    max_unscored_share: float = Field(default=0.5, ge=0, le=1)
    """When a larger part of a call is unscored because the model does not answer, the reward waits and asks again;
    when it stays so, for whatever reason, the training ends rather than learns from nothing. A model that answers
    nothing at all is waited for, and ends the training, whatever the share."""
    outage_poll_seconds: float = Field(default=30.0, gt=0)
    """How long it waits before it asks again."""
    outage_timeout_seconds: float = Field(default=1800.0, ge=0)
    """How long it goes on waiting."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the options from variables: FLIP_REWARD_ON_ and the name in capitals. Empty ones count as not set."""
        for old, new in _RENAMED.items():
            if environment.get(_PREFIX + old):
                raise OptionError(f"{_PREFIX}{old} is now {_PREFIX}{new}")
        return read_environment(cls, environment, _PREFIX)

    @model_validator(mode="after")
    def _know_the_limit(self) -> Self:
        if self.mask_truncated_completions and self.max_completion_length is None:
            raise ValueError("mask_truncated_completions needs max_completion_length")
        return self

    def masks(self, tokens: list[int], text: str = "") -> bool:
        """Whether a completion with these tokens and this text has no reward, because it ended at the limit."""
        if not self.mask_truncated_completions or self.max_completion_length is None:
            return False
        at_limit = len(tokens) >= self.max_completion_length and tokens[-1] not in self.end_tokens
        return at_limit and not ends_at_stop(text, self.stop_strings)


def ends_at_stop(text: str, stop_strings: Iterable[str]) -> bool:
    r"""Whether generation ended at a stop string. The token that completed it may hold some characters more.

    Example:
        >>> ends_at_stop("<answer>Pears.</answer>\n\n", ["</answer>"]), ends_at_stop("</answer> is a tag", [])
        (True, False)
    """
    return any(stop in text[-len(stop) - _LONGEST_REST :] for stop in stop_strings)
