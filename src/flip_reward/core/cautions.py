"""`ReliabilityLimits`: the responses that an inferrer was measured to tell apart, and cautions for the others.

A reward for a response outside the limits is a number like any other, but of low confidence. So the score carries a
caution, and what to do about it is the caller's choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from flip_reward.core.tokens import load_normalizer


class Caution(StrEnum):
    """Why a score has low confidence: mostly the inferrer can hardly tell which instruction the response answers."""

    SHORT_RESPONSE = "short_response"
    """A few words, which would answer many instructions."""
    MOSTLY_CODE = "mostly_code"
    """Code with hardly a word about it."""
    OTHER_LANGUAGE = "other_language"
    """A language that the inferrer was not tuned on."""
    COPIES_INSTRUCTION = "copies_instruction"
    """It repeats half of the instruction, or more, from which an inferrer reads it off: `core.copying`."""
    OUTSIDE_CALIBRATION = "outside_calibration"
    """A reward beyond all those that had labels when the calibration was made."""


_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
# Lines of code end or begin like this, without blanks around. Prose does so now and then, but never mostly.
_CODE_LINE = re.compile(
    r"""
        [{}()\[\]]+[;,]? | .*[;{}]                                                 # brackets, and how statements end
      | (?:def|class|for|while|if|elif|else|try|except|with|function|switch)\b.*[:{]
      | import\s+[\w.]+(?:\s+as\s+\w+)? | from\s+[\w.]+\s+import\s.* | [#]include.*
      | return\b.*(?<![.!?]) | (?:const|let|var)\s+[\w$]+\s*=.*
      | <[!/?]?\w[^<>]*>(?:.*>)?                                                  # a tag, up to the end of the line
      | [\w.\[\]]+\s*(?:[-+*/]?=|:=|<-)\s*\S.*(?<![.!?]) | [\w.]+\(.*\)         # assignments and calls
    """,
    re.VERBOSE,
)
_FEWEST_LINES_OF_CODE = 2
"""One line outside of fences may look like code and be mathematics or prose."""
# fmt: off
SMALL_WORDS = frozenset({  # of English
    "a", "about", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "could", "do", "does", "for",
    "from", "had", "has", "have", "he", "her", "his", "how", "i", "if", "in", "into", "is", "it", "its", "may", "my",
    "not", "of", "on", "or", "our", "she", "should", "so", "some", "such", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "to", "was", "we", "were", "what", "when", "which", "who", "will",
    "with", "would", "you", "your",
})
# fmt: on
_FEWEST_WORDS_OF_A_LANGUAGE = 12
"""With fewer words the share of small words does not tell the language."""


@dataclass(frozen=True, slots=True)
class ReliabilityLimits:
    """The responses that an inferrer is reliable for, by thresholds measured for it.

    Attributes:
        least_words: Responses with fewer words get `Caution.SHORT_RESPONSE`.
        most_code: Responses with a larger `share_of_code` get `Caution.MOSTLY_CODE`, 0 to 1.
        least_english: Responses of a dozen words and more with a smaller `share_of_english` get
            `Caution.OTHER_LANGUAGE`, 0 to 1. 0 for an inferrer of any language.
    """

    least_words: int
    most_code: float
    least_english: float

    def find_cautions(self, answer: str) -> tuple[Caution, ...]:
        """Return the cautions for a response, without its thinking section."""
        if share_of_code(answer) > self.most_code:
            return (Caution.MOSTLY_CODE,)  # its words are in no language
        words = load_normalizer("multilingual").tokenize(answer)
        if len(words) < self.least_words:
            return (Caution.SHORT_RESPONSE,)
        if len(words) >= _FEWEST_WORDS_OF_A_LANGUAGE and _share_of_english(words) < self.least_english:
            return (Caution.OTHER_LANGUAGE,)
        return ()


def share_of_code(text: str) -> float:
    r"""Return which share of the lines that are not blank is code: those in fences, and those that look like it.

    Example:
        >>> share_of_code("It adds two numbers:\n```python\ndef add(a, b):\n    return a + b\n```\n")
        0.8
    """
    fenced = sum(map(_count_lines, (match.group() for match in _FENCED.finditer(text))))
    others = [line for line in map(str.strip, _FENCED.sub("\n", text).splitlines()) if line]
    lines = fenced + len(others)
    looking_like_code = sum(1 for line in others if _CODE_LINE.fullmatch(line))
    if fenced + looking_like_code < _FEWEST_LINES_OF_CODE:
        return 0.0
    return (fenced + looking_like_code) / lines


def share_of_english(text: str) -> float:
    """Return which share of the words are small words of English, such as "the"; 0 for a text without words.

    In English prose it is about 0.4. Other languages share a few of these words by chance.

    Example:
        >>> share_of_english("Pears and plums are on the table."), share_of_english("Birnen liegen auf dem Tisch.")
        (0.5714285714285714, 0.0)
    """
    return _share_of_english(load_normalizer("multilingual").tokenize(text))


def _share_of_english(words: Sequence[str]) -> float:
    return sum(1 for word in words if word in SMALL_WORDS) / len(words) if words else 0.0


def _count_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())
