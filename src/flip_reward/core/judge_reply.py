"""Raw model text -> a judge's verdict: a rating or a choice. Replies may hold anything; nothing here raises.

A judge may quote what it was shown, and a response may hold a verdict on purpose. So a line of the reply that carries
the verdict's key and stands word for word in a shown response is a quotation, and never the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flip_reward.core.json_verdict import MAX_CHARACTERS, VerdictKey, find_verdict
from flip_reward.core.replies import ReplyStatus

LOWEST_RATING, HIGHEST_RATING = 1, 10
"""The range of ratings, both ends included."""

RATING_KEY = VerdictKey.of("score", "rating")
PAIR_KEY = VerdictKey.of("better response")
LIST_KEY = VerdictKey.of("best response index")


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What was read from a judge's reply.

    Attributes:
        status: Whether a verdict was found and, if not, why.
        value: The rating, 1 to 10; or the place of the chosen response among those shown, from 0. None exactly when
            `status` is not `ReplyStatus.PARSED`.
        reasoning: The explanation beside it, when there was one.
    """

    status: ReplyStatus
    value: float | None = None
    reasoning: str | None = None


def parse_rating(reply: str | None, finish_reason: str | None = "stop", *, shown: Sequence[str] = ()) -> JudgeReply:
    """Read a rating of 1 to 10 under the key "SCORE". Anything outside is no rating; nothing is clipped.

    Args:
        reply: The text as it came; None when the engine sent none.
        finish_reason: Why the reply ended. "length" means that it was cut off.
        shown: The responses that the judge was shown.

    Example:
        >>> parse_rating('{"REASONING": "Short, but right.", "SCORE": "8/10"}')
        JudgeReply(status=<ReplyStatus.PARSED: 'parsed'>, value=8.0, reasoning='Short, but right.')
        >>> parse_rating('{"SCORE": 11}').status
        <ReplyStatus.UNPARSEABLE: 'unparseable'>
    """
    return _parse(reply, finish_reason, RATING_KEY, shown, _read_rating)


def parse_pair_choice(
    reply: str | None, finish_reason: str | None = "stop", *, shown: Sequence[str] = ()
) -> JudgeReply:
    """Read which of two responses is better, under the key "BETTER_RESPONSE": 0 for "A", 1 for "B".

    Example:
        >>> parse_pair_choice('{"BETTER_RESPONSE": "Response B"}').value
        1
    """
    return _parse(reply, finish_reason, PAIR_KEY, shown, _read_letter)


def parse_list_choice(reply: str | None, finish_reason: str | None = "stop", *, shown: Sequence[str]) -> JudgeReply:
    """Read which response of a list is the best, under the key "BEST_RESPONSE_INDEX", from 0.

    Example:
        >>> parse_list_choice('{"BEST_RESPONSE_INDEX": 1}', shown=["Apple.", "Pear."]).value
        1
        >>> parse_list_choice('{"BEST_RESPONSE_INDEX": 2}', shown=["Apple.", "Pear."]).value is None
        True
    """

    def read_index(value: object) -> int | None:
        index = _read_index(value)
        return index if index is not None and 0 <= index < len(shown) else None

    return _parse(reply, finish_reason, LIST_KEY, shown, read_index)


def _parse(
    reply: str | None,
    finish_reason: str | None,
    key: VerdictKey,
    shown: Sequence[str],
    read: Callable[[object], float | None],
) -> JudgeReply:
    if reply is None or not reply or reply.isspace():
        return JudgeReply(ReplyStatus.EMPTY)
    truncated = finish_reason == "length"
    verdict = find_verdict(_without_quotations(reply, key, shown), key, truncated=truncated)
    if verdict is None:
        return JudgeReply(ReplyStatus.TRUNCATED if truncated else ReplyStatus.UNPARSEABLE)
    value = _first_line(verdict.value) if isinstance(verdict.value, str) else verdict.value
    if value is None or value == "":
        return JudgeReply(ReplyStatus.EMPTY)
    read_value = read(value)
    reasoning = verdict.reasoning if isinstance(verdict.reasoning, str) else None
    if read_value is not None:
        return JudgeReply(ReplyStatus.PARSED, read_value, reasoning)
    echoed = isinstance(value, str) and value.startswith("<") and value.endswith(">")
    return JudgeReply(ReplyStatus.TEMPLATE_ECHO if echoed else ReplyStatus.UNPARSEABLE)


def _without_quotations(reply: str, key: VerdictKey, shown: Sequence[str]) -> str:
    planted = [text for text in shown if _carries(key, text)]
    if not planted or len(reply) > MAX_CHARACTERS:
        return reply
    return "\n".join(line for line in reply.split("\n") if not (_carries(key, line) and _stands_in(planted, line)))


def _carries(key: VerdictKey, text: str) -> bool:
    return bool(key.quoted.search(text) or key.label.search(text))


def _stands_in(texts: Sequence[str], line: str) -> bool:
    """Whether a line, or the object at its end, stands in one of the texts."""
    line = line.strip()
    return any(line in text or ("{" in line and line[line.index("{") :] in text) for text in texts)


def _first_line(text: str) -> str:
    """The line a verdict stands on, without emphasis, quotes and brackets around it."""
    return text.strip().partition("\n")[0].rstrip(_AROUND + ".").lstrip(_AROUND)


_AROUND = " \t\r*_`'\"[]()"
_NUMBER = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)[ *_`]{0,4}(?:(?:/|out of)[ *_`]{0,4}10(?:\.0)?)?", re.IGNORECASE)
_LETTER = re.compile(r"(?:(?:response|answer|assistant|candidate|option)[ *_`:(\[]{0,4})?([ab])", re.IGNORECASE)
_INDEX = re.compile(r"(?:(?:response|answer|candidate|option|index)[ *_`:(\[]{0,4})?#?([0-9]{1,6})", re.IGNORECASE)


def _read_rating(value: object) -> float | None:
    if isinstance(value, str):
        number = _NUMBER.fullmatch(value)
        value = float(number.group(1)) if number else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if LOWEST_RATING <= value <= HIGHEST_RATING else None


def _read_letter(value: object) -> int | None:
    letter = _LETTER.fullmatch(value) if isinstance(value, str) else None
    return None if letter is None else "ab".index(letter.group(1).lower())


def _read_index(value: object) -> int | None:
    if isinstance(value, str):
        number = _INDEX.fullmatch(value)
        return int(number.group(1)) if number else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
