"""Text -> tokens: the authors' English normalisation, and one for every other script, each by name."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from flip_reward.errors import OptionError


@dataclass(frozen=True, slots=True)
class Normalizer:
    """A named way to turn text into the tokens that are compared.

    Attributes:
        name: The name it is chosen by: "english" or "multilingual".
        split: Text -> words, in order, those to be left out still among them. Never fails.
        ignored: The words that are left out. Counting first and leaving them out after is faster than filtering.

    Example:
        >>> load_normalizer("english").tokenize("What is the best fruit?")
        ['what', 'is', 'best', 'fruit']
        >>> load_normalizer("multilingual").tokenize("写一首诗。")
        ['写', '一', '首', '诗']
    """

    name: str
    split: Callable[[str], list[str]]
    ignored: frozenset[str] = frozenset()

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, in order: none when it is blank or nothing but punctuation."""
        return [word for word in self.split(text) if word not in self.ignored]


def load_normalizer(name: str) -> Normalizer:
    """Return the normaliser called `name`.

    "english" is the authors', which SQuAD evaluation made common: lower case, ASCII punctuation deleted, the articles
    a, an and the removed, white space folded. It keeps every other sign, so "写一首诗。" is one word.

    "multilingual" is for text in any language. Compatibility forms and case are folded (NFKC, full case folding).
    Apostrophes and invisible format characters are deleted; other punctuation and symbols separate words, but a
    pictograph such as an emoji is a token. In scripts written without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar
    and others) every character is a token, with its combining marks, while a run of digits is one token. Accents are
    kept, and so are articles: which words are articles depends on the language.
    """
    for normalizer in _NORMALIZERS:
        if normalizer.name == name:
            return normalizer
    raise OptionError(f"unknown normalizer {name!r}", hint=f"normalizers are {', '.join(NORMALIZERS)}")


def normalize_answer(text: str) -> str:
    """Normalise as the authors of FLIP do, after SQuAD: the "english" tokens joined by single spaces.

    Lower case, ASCII punctuation deleted, the words a, an and the removed, white space folded (arXiv 2602.13551;
    Rajpurkar et al. 2016, https://aclanthology.org/D16-1264).

    Example:
        >>> normalize_answer("The  quick-witted fox: a tale!")
        'quickwitted fox tale'
    """
    return " ".join(_ENGLISH.tokenize(text))


_PUNCTUATION = string.punctuation.encode()
_ARTICLES = frozenset(("a", "an", "the"))
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")

_SPACES = b"\t\n\v\f\r\x1c\x1d\x1e\x1f "  # where str.split() splits
_CONTROLS = bytes([*range(9), *range(14, 28), 127])
_FOLD_ASCII = bytes.maketrans(
    string.ascii_uppercase.encode() + _SPACES + _CONTROLS,
    string.ascii_lowercase.encode() + b" " * len(_SPACES) + b"\0" * len(_CONTROLS),
)


def _split_english(text: str) -> list[str]:
    # With punctuation gone, an ASCII text has only word characters and white space, so a word boundary is the edge of
    # a word and an article is a word. A control character (mapped to NUL) is neither, and needs the boundaries.
    if text.isascii():
        folded = text.encode().translate(_FOLD_ASCII, _PUNCTUATION)
        if b"\0" not in folded:
            return folded.decode().split()
    # ASCII bytes never occur inside a UTF-8 sequence, so bytes.translate deletes punctuation from any text.
    encoded = text.lower().encode("utf-8", "surrogatepass").translate(None, _PUNCTUATION)
    words: list[str] = []
    for word in encoded.decode("utf-8", "surrogatepass").split():
        if word.isalnum():
            words.append(word)
        else:  # “a” and the like: there is a word boundary inside
            words += _ARTICLE.sub(" ", word).split()
    return words


UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf\U00011700-\U0001174f"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet, Ahom
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"  # Han: radicals, signs, numerals
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han: ideographs
    "\u3040-\u30ff\u31f0-\u31ff\U0001aff0-\U0001b16f"  # Hiragana, Katakana
    "\u3100-\u312f\u31a0-\u31bf"  # Bopomofo
    "\ua000-\ua4cf"  # Yi
    "]"
)
"""A character of a script without spaces: UAX #14 breaks it everywhere (class ID) or by a dictionary (class SA)."""
_RULES_AND_BULLETS = re.compile("[\u2500-\u25ff]")  # box drawing, blocks, geometric shapes
_VARIATION_SELECTOR = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_APOSTROPHES = "'\u2019\u02bc"
_ZERO_WIDTH_SPACE = "\u200b"
_STACKERS = "\u1039\u17d2\u1a60"  # the next consonant is written below the last one: Myanmar, Khmer, Tai Tham

# Classes of characters, one letter each, so that a token is a pattern of letters.
_WORD, _SINGLE, _MARK, _STACKER, _SEPARATOR, _DELETED = "wcms -"
_TOKEN = re.compile("w[wms]*|c[ms]*(?:(?<=s)c[ms]*)*")


@lru_cache(maxsize=8192)
def _classify(character: str) -> str:
    category = unicodedata.category(character)
    if character in _APOSTROPHES or _VARIATION_SELECTOR.match(character):
        return _DELETED
    if category == "Cf":
        return _SEPARATOR if character == _ZERO_WIDTH_SPACE else _DELETED
    if category[0] == "M":
        return _STACKER if character in _STACKERS else _MARK
    if category == "So":
        return _SEPARATOR if _RULES_AND_BULLETS.match(character) else _SINGLE
    if category[0] in "PSZ" or category == "Cc":
        return _SEPARATOR
    return _SINGLE if category != "Nd" and UNSPACED.match(character) else _WORD


_SEPARATE_ASCII = bytes(
    ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else ord(" ") for code in range(256)
)


# Normalising sorts the marks on a character by their classes, in quadratic time. Halfwidth sound marks are \w.
_MANY_MARKS = re.compile(r"[^\w\s\x00-\x7f]{32,}")


def _sort_marks(run: re.Match[str]) -> str:
    """Decompose characters and sort their marks, as normalising would."""
    characters = "".join([unicodedata.normalize("NFKD", character) for character in run.group()])
    marks = groupby(characters, key=lambda character: unicodedata.combining(character) > 0)
    return "".join([one for _, same in marks for one in sorted(same, key=unicodedata.combining)])


def _split_multilingual(text: str) -> list[str]:
    if text.isascii():
        return text.encode().translate(_SEPARATE_ASCII, b"'").decode().split()
    text = _MANY_MARKS.sub(_sort_marks, text.replace("\uff9e", "\u3099").replace("\uff9f", "\u309a"))
    # Case folding can undo the normal form, hence twice.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    classes = {ord(character): _classify(character) for character in set(folded)}
    if _DELETED in classes.values():
        folded = folded.translate({code: None for code, kind in classes.items() if kind == _DELETED})
    return [folded[slice(*match.span())] for match in _TOKEN.finditer(folded.translate(classes))]


_ENGLISH = Normalizer("english", _split_english, ignored=_ARTICLES)
_NORMALIZERS = (_ENGLISH, Normalizer("multilingual", _split_multilingual))
NORMALIZERS = tuple(one.name for one in _NORMALIZERS)
"""The names of the normalisers."""
