"""What is the same in texts that look the same, or mean to: words without case, accents, marks and disguises."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterator

from flip_reward.core.tokens import UNSPACED

Place = tuple[str, int, int]
"""A word, with where it begins and ends."""


def fold(text: str) -> str:
    r"""Return the words of a text as they are compared, with blanks around.

    Case, accents, marks, invisible characters and which of two like letters it is do not matter.

    Example:
        >>> fold("Caf\u00e9, \uff26\uff35\uff2c\uff2c st\u200bop!").split()
        ['cafe', 'full', 'stop']
    """
    if text.isascii():
        return text.encode().translate(_FOLD_ASCII, b"'").decode()
    # bytes.translate is ten times as fast, and in UTF-8 no part of another character is ASCII
    encoded = text.encode("utf-8", "surrogatepass")
    folded = encoded.translate(_FOLD_ASCII, b"'").decode("utf-8", "surrogatepass")
    if len(encoded) - len(text) > len(text) // 8:
        return folded.translate(_FOLDS)
    return _BEYOND_ASCII.sub(lambda run: run.group().translate(_FOLDS), folded)


_FOLD_ASCII = bytes(
    ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else 32 if code < 128 else code
    for code in range(256)
)
_BEYOND_ASCII = re.compile("[^\0-\x7f]+")


def to_letters(folded: str) -> str:
    """Join words to their letters, without digits, which may be those of a list of words."""
    return folded.encode("utf-8", "surrogatepass").translate(None, _BETWEEN_LETTERS).decode("utf-8", "surrogatepass")


_BETWEEN_LETTERS = b" 0123456789"


def read_base64(text: str) -> str:
    """Return a text with what is written in base64 decoded."""
    if _LONG_WORD in text.encode("utf-8", "surrogatepass").translate(_SHAPES):
        return _BASE64.sub(_decode_run, text)
    return text


def place_words(text: str) -> Iterator[Place]:
    """Yield the words of a text, each with where it begins and ends; those in base64, with where that does."""
    at = 0
    for run in _BASE64.finditer(text):
        decoded = _decode_run(run)
        if decoded != run.group():
            yield from _place_in(text[at : run.start()], at)
            yield from ((word, *run.span()) for word in fold(decoded).split())
            at = run.end()
    yield from _place_in(text[at:], at)


def _place_in(text: str, offset: int) -> Iterator[Place]:
    letters: list[str] = []
    start = stop = 0
    for place, character in enumerate(f"{text} ", offset):
        for one in _FOLDS[ord(character)]:
            if one != " ":
                start = start if letters else place
                stop = place + 1
                letters.append(one)
            elif letters:
                yield "".join(letters), start, stop
                letters.clear()


_LONG_WORD = b"a" * 20
"""Where letters and digits stand so long in a row, they may be base64 (`_BASE64`)."""
_SHAPES = bytes(97 if code < 128 and (chr(code).isalnum() or chr(code) in "+/_-") else 32 for code in range(256))
"""Turns what base64 is written in to a, and all else to blanks."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_URL_SAFE = str.maketrans("-_", "+/")


def _decode_run(run: re.Match[str]) -> str:
    """Return what base64 says, between blanks; what is none, as it is."""
    digits = run.group().rstrip("=").translate(_URL_SAFE)
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    try:
        return f" {base64.b64decode(digits + '=' * (-len(digits) % 4)).decode()} "
    except ValueError:
        return run.group()


_LONGEST_FOLD = 4
"""A character that stands for more is one of its own: a few stand for sentences."""
_FILLERS = "\u115f\u1160"
"""Letters of Hangul that are seen as nothing."""
_FIRST_TAG, _LAST_TAG = 0xE0000, 0xE007F
"""Between them is ASCII once more, not to be seen."""
_LOOKS_LIKE = dict(zip("авекмнорстухіјѕһԁԛԝαβεικνορτυχıɑɡᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ",
                       "abekmhopctyxijshdqwabeikvoptuxiagabcdefghijklmnoprstuvwyz", strict=True))  # fmt: skip


class _Folds(dict[int, str]):
    """What is left of a character: letters without case and accents, a blank for marks, nothing for the invisible."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold_character(chr(code))
        return folded


def _fold_character(character: str) -> str:
    if character in "'’ʼ":
        return ""
    if _FIRST_TAG < ord(character) < _LAST_TAG:
        character = chr(ord(character) - _FIRST_TAG)
    kept = []
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    for one in folded if len(folded) <= _LONGEST_FOLD else character:
        one = _LOOKS_LIKE.get(one, one)  # noqa: PLW2901
        category = unicodedata.category(one)
        if category[0] in "LN" and one not in _FILLERS:
            kept.append(f" {one} " if UNSPACED.match(one) else one)
        elif category[0] != "M" and category != "Cf" and one not in _FILLERS:
            kept.append(" ")
    return "".join(kept)


_FOLDS = _Folds()
