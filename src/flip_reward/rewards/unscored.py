"""`UnscoredPolicy`: what stands for a response without a score where a caller wants a number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from flip_reward.core.score import Score
from flip_reward.errors import OptionError, UnscoredError

VARIABLE = "FLIP_REWARD_ON_UNSCORED"
"""The environment variable that chooses a policy."""
_HINT = "raise, none (where the trainer takes None for no reward) or a number of your choice"


class UnscoredAction(StrEnum):
    """What is done about a response that could not be scored."""

    RAISE = "raise"
    """The whole call or request fails."""
    NONE = "none"
    """The caller gets None, and does what it does with a missing reward."""
    CONSTANT = "constant"
    """The caller gets a number that the user chose."""


@dataclass(frozen=True, slots=True)
class UnscoredPolicy:
    """What a caller gets for a response without a score. Nobody gets a 0 without asking for it."""

    action: UnscoredAction
    constant: float | None = None

    @classmethod
    def parse(cls, text: str | float) -> Self:
        """Read "raise", "none" or a finite number."""
        word = str(text).strip().lower()
        if word in ("raise", "none"):
            return cls(UnscoredAction(word))
        try:
            constant = float(word)
        except ValueError:
            raise OptionError(f"{text!r} is not a policy for unscored responses", hint=_HINT) from None
        if not math.isfinite(constant):
            raise OptionError(f"{text!r} cannot be a reward: it would spoil the averages of a whole step", hint=_HINT)
        return cls(UnscoredAction.CONSTANT, constant)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Read FLIP_REWARD_ON_UNSCORED; None where it is not set."""
        text = environment.get(VARIABLE)
        if not text:
            return None
        try:
            return cls.parse(text)
        except OptionError as error:
            raise OptionError(f"{VARIABLE}: {error}", hint=error.hint) from None

    def rewards(self, scores: Sequence[Score]) -> list[float | None]:
        """Return the reward of each score, in order; raise an `UnscoredError` where the policy says so."""
        if self.action is UnscoredAction.RAISE:
            _refuse_unscored(scores)
        return [self.constant if score.value is None else score.value for score in scores]

    def numbers(self, scores: Sequence[Score], *, trainer: str) -> list[float]:
        """Return the reward of each score, in order, for a trainer that does not take None."""
        self.check_numbers(trainer)
        return [reward for reward in self.rewards(scores) if reward is not None]

    def check_numbers(self, trainer: str) -> None:
        """Refuse the policy "none" for a trainer that needs a number for every response."""
        if self.action is UnscoredAction.NONE:
            raise OptionError(
                f"{trainer} takes no None for a reward", hint=f"set {VARIABLE} to raise or to a number of your choice"
            )


RAISE = UnscoredPolicy(UnscoredAction.RAISE)
NONE = UnscoredPolicy(UnscoredAction.NONE)


def _refuse_unscored(scores: Sequence[Score]) -> None:
    unscored = [score for score in scores if score.value is None]
    if unscored:
        counts = Counter(score.outcome.value for score in unscored).most_common()
        detail = next((f" ({score.detail})" for score in unscored if score.detail), "")
        raise UnscoredError(
            f"{len(unscored)} of {len(scores)} responses could not be scored: "
            + ", ".join(f"{outcome} {count}" for outcome, count in counts)
            + detail,
            hint=f"{VARIABLE} says what such a response is worth: {_HINT}",
        )
