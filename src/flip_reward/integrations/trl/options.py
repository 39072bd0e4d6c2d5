"""What can be chosen about the reward as TRL's trainers call it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from flip_reward.rewards.unscored import NONE, UnscoredPolicy
from flip_reward.settings import read_environment

_PREFIX = "FLIP_REWARD_ON_"


class Truncated(StrEnum):
    """What becomes of a completion that ended at the token limit."""

    SCORE = "score"
    """It is scored like any other."""
    LEAVE_OUT = "leave_out"
    """It is not scored, and counts for nothing in its group's baseline. Nothing is asked about it."""


def _read_policy(value: object) -> object:
    return UnscoredPolicy.parse(value) if isinstance(value, str | float | int) else value


def _read_list(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


class TrlOptions(BaseModel):
    """How a reward behaves inside of a trainer.

    Example:
        >>> options = TrlOptions.from_environment(
        ...     {"FLIP_REWARD_ON_TRUNCATED": "leave_out", "FLIP_REWARD_ON_MAX_COMPLETION_LENGTH": "512"}
        ... )
        >>> options.is_truncated([5] * 512), options.is_truncated([5] * 100)
        (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unscored: Annotated[UnscoredPolicy, BeforeValidator(_read_policy)] = NONE
    """What TRL is given for a sample that could not be scored. None is best: TRL leaves it out of the baseline."""
    truncated: Truncated = Truncated.SCORE
    max_completion_length: int | None = Field(default=None, ge=1)
    """The trainer's option of this name, for TRL tells a reward the tokens but not their limit."""
    end_tokens: Annotated[frozenset[int], BeforeValidator(_read_list)] = frozenset()
    """Tokens that end a completion; one that has them at the limit is whole."""
    num_generations: int | None = Field(default=None, ge=1)
    """The trainer's option of this name. Rewards that compare responses need it, to see that a group is whole."""
    max_unscored_share: float = Field(default=0.5, ge=0, le=1)
    """When a larger part of a call is unscored because the model does not answer, the reward waits and asks again;
    when it stays so, for whatever reason, the training ends rather than learns from nothing. A model that answers
    nothing at all is waited for, and ends the training, whatever the share."""
    pause_seconds: float = Field(default=30.0, gt=0)
    """How long it waits before it asks again."""
    patience_seconds: float = Field(default=1800.0, ge=0)
    """How long it goes on waiting."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the options from environment variables: FLIP_REWARD_ON_ and the option's name in capitals.

        Args:
            environment: For example `os.environ`. Empty variables count as not set.

        Raises:
            OptionError: A variable is misspelt or has a wrong value.
        """
        return read_environment(cls, environment, _PREFIX)

    @model_validator(mode="after")
    def _know_the_limit(self) -> Self:
        if self.truncated is Truncated.LEAVE_OUT and self.max_completion_length is None:
            raise ValueError("truncated completions can be left out only when max_completion_length is known")
        return self

    def is_truncated(self, tokens: list[int]) -> bool:
        """Whether a completion with these tokens is to be left out because it ended at the limit."""
        if self.truncated is Truncated.SCORE or self.max_completion_length is None:
            return False
        return len(tokens) >= self.max_completion_length and tokens[-1] not in self.end_tokens
