"""`UnscoredPolicy`: what a trainer is given for a response that could not be scored."""

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
    """An error ends the step."""
    NONE = "none"
    """The trainer gets None, and does what it does with a missing reward."""
    CONSTANT = "constant"
    """The trainer gets a number that the user chose."""


@dataclass(frozen=True, slots=True)
class UnscoredPolicy:
    """What a trainer is given for a response without a score. Nobody gets a 0 that they did not ask for.

    Attributes:
        action: What is done.
        constant: The reward of such a response, where the action is `UnscoredAction.CONSTANT`.

    Example:
        >>> from flip_reward.core.score import Outcome
        >>> scores = [Score(0.5, Outcome.SCORED), Score(None, Outcome.EMPTY_RESPONSE)]
        >>> UnscoredPolicy.parse("none").rewards(scores)
        [0.5, None]
        >>> UnscoredPolicy.parse("-0.25").numbers(scores, trainer="verl")
        [0.5, -0.25]
        >>> try:
        ...     UnscoredPolicy.parse("raise").rewards(scores)
        ... except UnscoredError as error:
        ...     print(error)
        1 of 2 responses could not be scored: empty_response 1
    """

    action: UnscoredAction
    constant: float | None = None

    @classmethod
    def parse(cls, text: str | float) -> Self:
        """Read a policy: "raise", "none" or a number.

        Raises:
            OptionError: It is none of them, or no finite number.
        """
        word = str(text).strip().lower()
        if word in ("raise", "none"):
            return cls(UnscoredAction(word))
        try:
            constant = float(word)
        except ValueError:
            raise OptionError(f"{text!r} says nothing about unscored responses", hint=_HINT) from None
        if not math.isfinite(constant):
            raise OptionError(f"{text!r} is no reward: it would spoil the averages of a whole step", hint=_HINT)
        return cls(UnscoredAction.CONSTANT, constant)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Read the policy from FLIP_REWARD_ON_UNSCORED; None where it is not set.

        Args:
            environment: For example `os.environ`.

        Raises:
            OptionError: It cannot be read.
        """
        text = environment.get(VARIABLE)
        if not text:
            return None
        try:
            return cls.parse(text)
        except OptionError as error:
            raise OptionError(f"{VARIABLE}: {error}", hint=error.hint) from None

    def rewards(self, scores: Sequence[Score]) -> list[float | None]:
        """Return the reward of each score, in order.

        Raises:
            UnscoredError: A response is unscored, and the policy is to raise.
        """
        if self.action is UnscoredAction.RAISE:
            _refuse_unscored(scores)
        return [self.constant if score.value is None else score.value for score in scores]

    def numbers(self, scores: Sequence[Score], *, trainer: str) -> list[float]:
        """Return the reward of each score, in order, for a trainer that knows no missing rewards.

        Args:
            scores: What came back.
            trainer: Its name, for the error.

        Raises:
            OptionError: The policy is None, which the trainer does not take.
            UnscoredError: A response is unscored, and the policy is to raise.
        """
        self.check_numbers(trainer)
        return [reward for reward in self.rewards(scores) if reward is not None]

    def check_numbers(self, trainer: str) -> None:
        """Make sure that every reward will be a number.

        Raises:
            OptionError: The policy is None.
        """
        if self.action is UnscoredAction.NONE:
            raise OptionError(
                f"{trainer} takes no None for a reward", hint=f"set {VARIABLE} to raise or to a number of your choice"
            )


RAISE = UnscoredPolicy(UnscoredAction.RAISE)
NONE = UnscoredPolicy(UnscoredAction.NONE)


def _refuse_unscored(scores: Sequence[Score]) -> None:
    outcomes = Counter(score.outcome.value for score in scores if score.value is None)
    if outcomes:
        counts = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
        details = {score.detail: None for score in scores if score.value is None and score.detail}
        example = f" ({next(iter(details))})" if details else ""
        raise UnscoredError(
            f"{outcomes.total()} of {len(scores)} responses could not be scored: {counts}{example}",
            hint=f"{VARIABLE} says what such a response is worth: {_HINT}",
        )
