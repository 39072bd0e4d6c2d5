"""Attacked texts: what each attack makes of a genuine response to each prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flip_reward.audit.attacks.base import Attack, Carrier, Effect
from flip_reward.audit.nearest import find_nearest
from flip_reward.audit.prompts import AttackedText, AuditPrompt
from flip_reward.audit.read import ReadAnswer
from flip_reward.core.response import replace_lone_surrogates, select_target
from flip_reward.core.score import Outcome
from flip_reward.core.tokens import load_normalizer


def make_attacked(
    prompts: Sequence[AuditPrompt], attacks: Sequence[Attack], read: ReadAnswer, *, seed: int = 0
) -> list[AuditPrompt]:
    """Return the prompts with at most one text for each attack.

    An attack changes the visible answer of a response, as a reward reads it. Which response that is depends on the
    seed, the prompt and whose it is, so that attacks on the same prompt change the same one. Where one changes
    nothing, or there is no other prompt whose response it could take, it has no text.

    Example:
        >>> from flip_reward.core.conversation import Message
        >>> def shout(instruction, response, seed):
        ...     return response.upper()
        >>> prompt = AuditPrompt("1", (Message("user", "Say hi."),), ("Hi!", "Hm."), (True, False), ())
        >>> [made] = make_attacked([prompt], [Attack("style.shout", Effect.EXPLOIT, shout)], str)
        >>> made.attacked
        (AttackedText(attack='style.shout', text='HM.', changed=1),)
    """
    instructions = [select_target(prompt.messages).instruction for prompt in prompts]
    others = _Others(prompts, instructions, seed, nearest=any(one.carrier is Carrier.NEAREST for one in attacks))
    made = []
    for place, (prompt, instruction) in enumerate(zip(prompts, instructions, strict=True)):
        carriers = _find_carriers(place, prompts, others, read, seed)
        drawn = _draw(seed, prompt.id, "attack")
        texts = []
        for attack in attacks:
            carrier = carriers.of(attack)
            if carrier is None:
                continue
            text = replace_lone_surrogates(attack.function(instruction, carrier.answer, drawn))
            if attack.carrier is not Carrier.OWN or text != carrier.answer:
                texts.append(AttackedText(attack.name, text, carrier.changed))
        made.append(replace(prompt, attacked=tuple(texts)))
    return made


@dataclass(frozen=True, slots=True)
class _CarrierText:
    """The visible answer that an attack changes."""

    answer: str
    changed: int | None


@dataclass(frozen=True, slots=True)
class _Carriers:
    """Those of a prompt."""

    chosen: _CarrierText
    rejected: _CarrierText
    other: _CarrierText | None
    nearest: _CarrierText | None

    def of(self, attack: Attack) -> _CarrierText | None:
        if attack.carrier is Carrier.OWN:
            return self.chosen if attack.effect is Effect.BROKEN else self.rejected
        return self.other if attack.carrier is Carrier.OTHER else self.nearest


class _Others:
    """Which other prompt's responses are taken. Prompts with the same instruction are no others.

    It is the same where it differs in blanks, case or punctuation alone: what answers the one answers the other.
    """

    def __init__(
        self, prompts: Sequence[AuditPrompt], instructions: Sequence[str], seed: int, *, nearest: bool
    ) -> None:
        self._prompts = prompts
        self._seed = seed
        tokenize = load_normalizer("multilingual").tokenize
        words = [" ".join(tokenize(instruction)) or instruction for instruction in instructions]
        first: dict[str, int] = {}
        for place, said in enumerate(words):
            first.setdefault(said, place)
        numbers = {said: number for number, said in enumerate(first)}
        self._first = list(first.values())
        self._number = [numbers[said] for said in words]
        self._nearest = find_nearest([instructions[place] for place in self._first]) if nearest else []

    def draw(self, place: int) -> int | None:
        """Draw one at random."""
        if len(self._first) == 1:
            return None
        drawn = _draw(self._seed, self._prompts[place].id, "other") % (len(self._first) - 1)
        return self._first[drawn + (drawn >= self._number[place])]

    def find_nearest(self, place: int) -> int | None:
        """Find the most similar one; where none has a word in common, one at random."""
        found = self._nearest[self._number[place]] if self._nearest else None
        return self.draw(place) if found is None else self._first[found]


def _find_carriers(
    place: int, prompts: Sequence[AuditPrompt], others: _Others, read: ReadAnswer, seed: int
) -> _Carriers:
    def take(prompt: AuditPrompt, *, chosen: bool | None = None) -> _CarrierText:
        """Draw one of the responses that have an answer, of those with a label where there are such."""
        answers = {}
        for index, response in enumerate(prompt.genuine):
            answer = read(response)
            if not isinstance(answer, Outcome):
                answers[index] = answer
        labelled = [index for index in answers if prompt.chosen and prompt.chosen[index] is chosen]
        wanted = labelled or list(answers)
        index = wanted[_draw(seed, prompts[place].id, "response") % len(wanted)]
        return _CarrierText(answers[index], index)

    def take_other(other: int | None) -> _CarrierText | None:
        return None if other is None else replace(take(prompts[other]), changed=None)

    own = prompts[place]
    return _Carriers(
        take(own, chosen=True),
        take(own, chosen=False),
        take_other(others.draw(place)),
        take_other(others.find_nearest(place)),
    )


def _draw(seed: int, *words: str) -> int:
    """Draw a number of 32 bits that depends on nothing else."""
    text = "\0".join([str(seed), *words])
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:4], "big")
