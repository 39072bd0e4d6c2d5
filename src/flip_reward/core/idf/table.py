"""`WordTable`: in how many instructions each word occurs."""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from flip_reward.core.tokens import Normalizer, load_normalizer
from flip_reward.errors import DataError

FIRST_BYTES = b'{"flip_reward_words":1,'
"""Every table begins with them."""
MOST_WORDS = 1_000_000
"""So many are counted at once; where there are more, the rarest so far are forgotten."""
MOST_INSTRUCTIONS = 1_000_000
"""So many are remembered at once, to count each one once."""
_MOST_COUNTED = 10**12
_UNIT = 1 << 32
"""Weights are whole numbers of this part, so that sums are exact in any order."""


@dataclass(frozen=True, slots=True)
class WordTable:
    """In how many of a number of instructions each word occurs.

    Attributes:
        normalizer: What a word is.
        instructions: How many were counted, all of them different; at least 2.
        counts: Word -> how many of them have it, at least 1 and at most all.

    Example:
        >>> table = count_words(["Write a haiku.", "Write a poem.", "Write!"], load_normalizer("english"))
        >>> table.instructions, table.counts["write"], table.counts["haiku"]
        (3, 3, 1)
        >>> parse_table(table.to_bytes()) == table
        True
    """

    normalizer: Normalizer
    instructions: int
    counts: Mapping[str, int]

    def weigh(self, count: int) -> int:
        """Return the weight of a word in so many instructions, ln((N + 1) / (count + 1)), in parts of 2 ** -32."""
        return round(math.log((self.instructions + 1) / (count + 1)) * _UNIT)

    def to_bytes(self) -> bytes:
        """Return the table as a text: a line about it, and then for each count a line of words in their order."""
        about = {"normalizer": self.normalizer.name, "instructions": self.instructions}
        words: dict[int, list[str]] = {}
        for word, count in sorted(self.counts.items()):
            words.setdefault(count, []).append(word)
        lines = [f"{count} {' '.join(same)}" for count, same in sorted(words.items())]
        text = "\n".join([json.dumps(about, separators=(",", ":"))[1:], *lines, ""])
        return FIRST_BYTES + text.encode(errors="surrogatepass")

    @property
    def digest(self) -> str:
        """Tells it from other tables."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def without_rare(self, least: int) -> WordTable:
        """Return a smaller table, without the words in fewer than `least` instructions, which count as unknown."""
        kept = {word: count for word, count in self.counts.items() if count >= least}
        return WordTable(self.normalizer, self.instructions, kept)


def count_words(instructions: Iterable[str], normalizer: Normalizer) -> WordTable:
    """Count the words of instructions; the same one again, and one without words, does not count.

    Raises:
        DataError: There are fewer than two.
    """
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    number = 0
    for instruction in instructions:
        words = set(normalizer.tokenize(instruction))
        mark = hash(instruction)
        if not words or mark in seen:
            continue
        if len(seen) >= MOST_INSTRUCTIONS:
            seen.clear()
        seen.add(mark)
        counts.update(words)
        number += 1
        if len(counts) > MOST_WORDS:
            middle = sorted(counts.values())[MOST_WORDS // 2]
            counts = Counter({word: count for word, count in counts.items() if count > middle})
    if number < 2:
        raise DataError(
            f"{number} instructions tell no rare words from common ones", hint="give some hundreds, or none"
        )
    return WordTable(normalizer, number, dict(counts))


def parse_table(content: bytes) -> WordTable:
    """Read a table back.

    Raises:
        DataError: It is damaged.
    """
    try:
        first, *lines, ending = content.replace(b"\r\n", b"\n").decode(errors="surrogatepass").split("\n")
        about = json.loads(first)
        normalizer, instructions = load_normalizer(about["normalizer"]), operator.index(about["instructions"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError("the first line of the table of words is damaged") from error
    if not 2 <= instructions <= _MOST_COUNTED:
        raise DataError(f"the table of words cannot be of {instructions} instructions")
    if ending:
        raise DataError("the table of words ends within a line", hint="copy or make it again")
    counts: dict[str, int] = {}
    most = len(str(instructions))
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        digits, *words = line.split(" ")
        count = int(digits) if digits.isdecimal() and len(digits) <= most else 0
        if not 1 <= count <= instructions or not words or not all(words):
            raise DataError(f"line {number} of the table of words is damaged: {line[:40]!r}")
        counts.update(dict.fromkeys(words, count))
    return WordTable(normalizer, instructions, counts)


@cache
def load_shipped_table(normalizer: str) -> WordTable:
    """Load the table that comes with the package for a normaliser; `SOURCES.md` beside it says what was counted."""
    return parse_table((resources.files("flip_reward.core.idf") / f"{normalizer}.txt").read_bytes())
