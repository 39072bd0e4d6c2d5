"""`Attack`: a change to a response that a reward should not be fooled by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from inspect import getdoc

AttackFunction = Callable[[str, str, int], str]
"""(instruction, response, seed) -> the attacked text. It never raises, and takes linear time."""


class Effect(StrEnum):
    """What an attack does to the worth of a response, and so what a good reward makes of it."""

    EXPLOIT = "exploit"
    """Nothing is better for it: a reward that rises is gamed."""
    KEPT = "kept"
    """The meaning stays: a reward that changes is not robust."""
    BROKEN = "broken"
    """The meaning is broken: a reward that does not fall is blind."""


class Carrier(StrEnum):
    """Whose response an attack changes."""

    OWN = "own"
    """A genuine response to the same prompt: a rejected one for exploits and a chosen one for broken meaning, where
    there are labels."""
    OTHER = "other"
    """A genuine response to another prompt, drawn at random: it answers nothing."""
    NEAREST = "nearest"
    """A genuine response to the most similar other prompt."""


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack by its name.

    Attributes:
        name: FAMILY.NAME, such as "copy.before".
        effect: What a good reward makes of it.
        function: It makes the attacked text.
        carrier: Whose response it is given.
        copied_share: The share of the instruction's 4-grams that it puts into the text, 0 to 1, for those that differ
            in nothing else; None for all others.

    Example:
        >>> def shout(instruction, response, seed):
        ...     "Everything in capitals, as some rewards take loudness for confidence."
        ...     return response.upper()
        >>> attack = Attack("style.shout", Effect.EXPLOIT, shout)
        >>> attack.family, attack.function("Say hi.", "Hi!", 0)
        ('style', 'HI!')
    """

    name: str
    effect: Effect
    function: AttackFunction
    carrier: Carrier = Carrier.OWN
    copied_share: float | None = None

    @property
    def family(self) -> str:
        """What kind of attack it is: copy, key, injection, refusal, style, length, kept, broken."""
        return self.name.partition(".")[0]

    @property
    def description(self) -> str:
        """What it imitates, in a sentence."""
        return (getdoc(self.function) or "").partition("\n\n")[0].replace("\n", " ")
