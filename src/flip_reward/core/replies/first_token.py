"""The likeliest first tokens of a reply -> how likely each of the answers is that were asked for. No parsing.

Tokens count for an answer in any of its spellings: " Yes", "YES", "▁Yes" and "**Yes" are "Yes". A letter or a digit
has no other case: "a" is a word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flip_reward.core.chat.thinking import THINKING
from flip_reward.core.response import replace_lone_surrogates

LEAST_MASS = 0.25
"""A reply that begins with one of the answers less often says nothing about them: what there is of "A" may be the
article. SmolLM2 with 135M parameters has about 0.5 with the package's templates."""

_ROUNDING = 1e-6
"""What is left beside the tokens that are known cannot be told from less than this."""
_AROUND = " \t\r\n▁ĠĊ\"'`*_.,:;!?()[]{}<>“”‘’"

Alternatives = Sequence[tuple[str, float]]
"""Tokens and the natural logarithms of their probabilities, the likeliest first."""


@dataclass(frozen=True, slots=True)
class AnswerOdds:
    """How likely a reply begins with each of some answers.

    Attributes:
        log_probabilities: By answer, of those that are among the tokens.
        most: What any other answer can have at most: no more than the least of the tokens, and no more than its share
            of what they leave.
        answers: All answers.
        mass: How likely the reply begins with any answer that is among the tokens, 0 to 1.
        begins_with: The likeliest token.
    """

    log_probabilities: Mapping[str, float]
    most: float
    answers: Sequence[str]
    mass: float
    begins_with: str

    @property
    def is_answer(self) -> bool:
        """Whether the probabilities mean something."""
        return self.mass >= LEAST_MASS

    def log_odds(self, one: str, other: str) -> float:
        """Return ln P(one) - ln P(other), which has no bounds and so no ties where a probability rounds to 1.

        An answer that is not among the tokens has the most that it can have.
        """
        return self.log_probabilities.get(one, self.most) - self.log_probabilities.get(other, self.most)

    def expect(self) -> float:
        """Return the mean of the answers as numbers, each weighing its probability among those that are known.

        What the others might have would draw every rating to the middle. There is an answer (`is_answer`).
        """
        most = max(self.log_probabilities.values())
        weights = {answer: math.exp(value - most) for answer, value in self.log_probabilities.items()}
        return math.fsum(float(answer) * weight for answer, weight in weights.items()) / math.fsum(weights.values())

    def explain(self) -> str:
        """Say why this is no answer.

        Example:
            >>> weigh_answers([("Okay", -0.1), ("Yes", -3.0)], ["Yes", "No"]).explain()
            "the reply begins with 'Okay', and with Yes or No in 5.0% of cases alone"
        """
        named = f"{', '.join(self.answers[:-1])} or {self.answers[-1]}"
        thinks = "; switch thinking off with --no-thinking" if _begins_thinking(self.begins_with) else ""
        return (
            f"the reply begins with {self.begins_with!r}, and with {named} in {self.mass:.1%} of cases alone{thinks}"
        )


def weigh_answers(alternatives: Alternatives, answers: Sequence[str]) -> AnswerOdds:
    """Add up the tokens of each answer; there is at least one token.

    Example:
        >>> odds = weigh_answers(
        ...     [("Yes", math.log(0.6)), (" no", math.log(0.2)), ("yes", math.log(0.1))], ["Yes", "No"]
        ... )
        >>> round(odds.mass, 3), round(math.exp(odds.log_odds("Yes", "No")), 3)
        (0.9, 3.5)
    """
    found: dict[str, list[float]] = {answer: [] for answer in answers}
    for token, value in alternatives:
        answer = _find_answer(token, answers)
        if answer is not None:
            found[answer].append(value)
    known = {answer: _add(values) for answer, values in found.items() if values}
    left = max(1 - math.fsum(math.exp(value) for _, value in alternatives), _ROUNDING)
    most = min(math.log(left / max(len(found) - len(known), 1)), *(value for _, value in alternatives))
    mass = min(math.fsum(math.exp(value) for value in known.values()), 1.0)
    return AnswerOdds(known, most, answers, mass, alternatives[0][0])


def write_alternatives(alternatives: Alternatives) -> str:
    """Write tokens and their log-probabilities as the JSON that a score's `raw_reply` holds.

    Example:
        >>> write_alternatives([("Yes", -0.1), ("No", -2.5)])
        '[["Yes", -0.1], ["No", -2.5]]'
    """
    written = json.dumps([list(one) for one in alternatives], ensure_ascii=False)
    return replace_lone_surrogates(written)


def _find_answer(token: str, answers: Sequence[str]) -> str | None:
    word = token.strip(_AROUND)
    return next((one for one in answers if word == one or (len(one) > 1 and word.lower() == one.lower())), None)


def _add(values: Sequence[float]) -> float:
    most = max(values)
    return most + math.log(math.fsum(math.exp(value - most) for value in values))


def _begins_thinking(token: str) -> bool:
    word = token.strip().lower()
    starts = [start for marks in THINKING if marks.certain for start in marks.starts]
    return len(word) > 1 and any(start.lower().startswith(word) for start in starts)
