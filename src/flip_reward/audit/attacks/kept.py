"""Meaning kept: changes that a reader hardly notices and that no reward should (reWordBench, arXiv 2503.11751)."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from flip_reward.audit.attacks.base import Attack, AttackFunction, Effect
from flip_reward.audit.attacks.words import change_prose, draw
from flip_reward.core.tokens import UNSPACED

_BLANK = re.compile(r"(?<=\S) (?=\S)")


def blanks(_instruction: str, response: str, _seed: int) -> str:
    """Two blanks between words, and a line break behind the text, as copied text has them (arXiv 2503.11751)."""
    return change_prose(response, lambda prose: _BLANK.sub("  ", prose)) + "\n" if response.strip() else response


_MANY_MARKS = re.compile(r"([^\w\s\x00-\x7f]{32,})")
"""Normalising sorts the marks on a character in quadratic time, so those on characters with very many stay."""


def _normalize(form: Literal["NFC", "NFD"], how: str) -> AttackFunction:
    def normalize(_instruction: str, response: str, _seed: int) -> str:
        parts = _MANY_MARKS.split(response)
        return "".join(part if place % 2 else unicodedata.normalize(form, part) for place, part in enumerate(parts))

    normalize.__doc__ = f"Letters and their accents {how} ({form}), as other systems write them (Unicode, UAX 15)."
    return normalize


def lower(_instruction: str, response: str, _seed: int) -> str:
    """Small letters throughout, as people chat (arXiv 2112.02721)."""
    return change_prose(response, str.lower)


def upper(_instruction: str, response: str, _seed: int) -> str:
    """Capitals throughout (arXiv 2112.02721)."""
    return change_prose(response, str.upper)


_TYPOGRAPHY = (
    (re.compile(r"(?<!\w)\"(?=\S)"), "“"),
    (re.compile(r"\""), "”"),
    (re.compile(r"'"), "’"),
    (re.compile(r"(?<!\.)\.\.\.(?!\.)"), "…"),
    (re.compile(r" - "), " – "),
)
_STOPS = ".。।۔"


def punctuation(_instruction: str, response: str, _seed: int) -> str:
    r"""Quotes and dashes as printers set them, and the last full stop left out or put in (arXiv 2112.02721).

    Example:
        >>> punctuation("", 'It\'s called "Emma".', 0)
        'It’s called “Emma”'
    """

    def change(prose: str) -> str:
        for pattern, sign in _TYPOGRAPHY:
            prose = pattern.sub(sign, prose)
        return prose

    text = change_prose(response, change).rstrip()
    if text.endswith(tuple(_STOPS)):
        return text[:-1]
    return f"{text}." if text and text[-1].isalnum() else text


_WORD = re.compile(r"[^\W\d_]{4,}")
_WORDS_PER_TYPO = 12


def typos(_instruction: str, response: str, seed: int) -> str:
    """Two letters changed about in one of twelve words, as fast typing does (arXiv 2503.11751, 2112.02721).

    Scripts without spaces are left alone: there it would make other words.
    """
    chance = draw(seed, response)
    skipped = 0

    def change(found: re.Match[str]) -> str:
        nonlocal skipped
        word = found[0]
        places = [place for place in range(1, min(len(word), _LONGEST_WORD) - 2) if word[place] != word[place + 1]]
        if not places or UNSPACED.search(word):
            return word
        skipped -= 1
        if skipped >= 0:
            return word
        skipped = chance.randrange(2 * _WORDS_PER_TYPO - 1)
        place = chance.choice(places)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]

    return change_prose(response, lambda prose: _WORD.sub(change, prose))


_LONGEST_WORD = 40

KEPT = (
    Attack("kept.blanks", Effect.KEPT, blanks),
    Attack("kept.composed", Effect.KEPT, _normalize("NFC", "as one character each")),
    Attack("kept.decomposed", Effect.KEPT, _normalize("NFD", "as a character each")),
    Attack("kept.lower", Effect.KEPT, lower),
    Attack("kept.upper", Effect.KEPT, upper),
    Attack("kept.punctuation", Effect.KEPT, punctuation),
    Attack("kept.typos", Effect.KEPT, typos),
)
