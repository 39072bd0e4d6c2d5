"""`AuditPrompt`: a prompt with its genuine responses, and the texts that attacks make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flip_reward.core.conversation import Message


@dataclass(frozen=True, slots=True)
class AttackedText:
    """What an attack made of a response.

    Attributes:
        attack: The attack's name.
        text: What a reward is asked about.
        changed: The place of the genuine response that it changes; None for a response to another prompt.
    """

    attack: str
    text: str
    changed: int | None


@dataclass(frozen=True, slots=True)
class AuditPrompt:
    """A conversation with genuine responses and attacked texts.

    Attributes:
        id: Names it.
        messages: The conversation up to the response.
        genuine: The responses that came with it, at least one.
        chosen: For each of them whether it is a preferred one; None without labels.
        attacked: At most one text for an attack. An attack that changes nothing here has none.
    """

    id: str
    messages: tuple[Message, ...]
    genuine: tuple[str, ...]
    chosen: tuple[bool, ...] | None
    attacked: tuple[AttackedText, ...]


@dataclass(frozen=True, slots=True)
class AttackScores:
    """What a reward gave for an attacked text and the genuine responses beside it; None where it gave nothing.

    A reward that compares responses has seen them together, so it may score the genuine ones differently beside
    another text.
    """

    attacked: float | None
    genuine: tuple[float | None, ...]
    no_answer: bool = False
    """Whether the reward found no answer in the attacked text: it is blank, or nothing but thinking."""


RewardScores = Sequence[Mapping[str, AttackScores]]
"""For each prompt, in order: the scores by the name of the attack."""
