"""Words, sentences and code in a text, as attacks change them. All of it takes linear time and never raises."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache

from flip_reward.core.idf.table import load_shipped_table
from flip_reward.core.tokens import UNSPACED, load_normalizer

_ENGLISH = load_normalizer("english")
_UNSPACED = UNSPACED.pattern
_PIECE = re.compile(rf"{_UNSPACED}[^\w\s]*|(?:(?!{_UNSPACED})\S)+")
_SENTENCE_END = re.compile(r"(?<=[.!?।؟])\s+|(?<=[。！？])\s*|\n+")
_COMMON = 50
"""A word that more than one of so many instructions has says nothing of what one is about."""
_MOST_TOPICS = 5


def draw(seed: int, text: str) -> random.Random:
    """Return the chance of an attack on a text: the same for the same seed and text."""
    return random.Random(f"{seed} {text}".encode(errors="surrogatepass"))  # noqa: S311 - repeatable on purpose


def join(*parts: str) -> str:
    """Join paragraphs by blank lines; those that are blank are left out."""
    return "\n\n".join(part for part in parts if part and not part.isspace())


def wrap(before: str, text: str, after: str = "") -> str:
    """Put something around a text; nothing where it is blank."""
    return f"{before}{text}{after}" if text and not text.isspace() else ""


def split_words(text: str) -> list[str]:
    """Split a text into words that make the text again, each with one token and the blanks and signs before it.

    Tokens are those of the paper's F1, so an article goes with the word behind it. In scripts without spaces every
    character is a word.

    Example:
        >>> split_words("Write a poem - now!"), split_words("写一首诗。")
        (['Write', ' a poem', ' - now!'], ['写', '一', '首', '诗。'])
    """
    words = []
    start = 0
    for piece in _PIECE.finditer(text):
        if _ENGLISH.tokenize(piece[0]):
            words.append(text[start : piece.end()])
            start = piece.end()
    if words:
        words[-1] += text[start:]
        return words
    return [text] if text.strip() else []


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences and lines, without blank ones."""
    return [sentence.strip() for sentence in _SENTENCE_END.split(text) if sentence.strip()]


@cache
def _common_words() -> frozenset[str]:
    table = load_shipped_table("english")
    return frozenset(word for word, count in table.counts.items() if count * _COMMON > table.instructions)


def content_words(text: str) -> list[str]:
    """Return the words that few instructions have, a blank before them where there was one; all where there is none.

    Example:
        >>> "".join(content_words("What is the capital of France?"))
        ' capital France?'
    """
    words = []
    for piece in _PIECE.finditer(text):
        if not _common_words().issuperset(_ENGLISH.tokenize(piece[0])):
            blank = " " if text[piece.start() - 1 : piece.start()].isspace() else ""
            words.append(blank + piece[0])
    return words or split_words(text)


def find_topic(instruction: str) -> str:
    """Return the rarest words of an instruction in their order, or "this" where it has none.

    Example:
        >>> find_topic("Write a short poem about the sea in winter.")
        'short poem sea winter'
    """
    tokens = list(dict.fromkeys(token for word in content_words(instruction) for token in _ENGLISH.tokenize(word)))
    counts = load_shipped_table("english").counts
    rare = set(sorted(tokens, key=lambda token: counts.get(token, 0))[:_MOST_TOPICS])
    return " ".join(token[:_LONGEST_TOPIC] for token in tokens if token in rare) or "this"


_LONGEST_TOPIC = 60


def change_prose(text: str, change: Callable[[str], str]) -> str:
    """Change a text except for what stands in fences of code, where a letter may matter."""
    return "```".join(part if place % 2 else change(part) for place, part in enumerate(text.split("```")))
