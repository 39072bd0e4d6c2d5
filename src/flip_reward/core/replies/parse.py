"""Raw model text -> what was asked for: an inferred instruction, a rating or a choice.

Replies may hold anything; nothing here raises on one. A judge may quote what it was shown, and a response may hold a
verdict on purpose. So a line of the reply that carries the verdict's key and stands word for word in a shown response
is a quotation, and never the verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from flip_reward.core.replies.ending import Ending
from flip_reward.core.replies.json_verdict import MAX_CHARACTERS, Verdict, VerdictKey, find_verdict, unwrap_reply
from flip_reward.core.replies.published import rate_as_published, read_as_published
from flip_reward.core.response import strip_thinking
from flip_reward.core.score import Outcome

INSTRUCTION_KEY = VerdictKey.of("inferred instruction", "instruction")


class ReplyStatus(StrEnum):
    """Whether a reply could be read, and if not, why."""

    PARSED = "parsed"
    UNPARSEABLE = "unparseable"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    TEMPLATE_ECHO = "template_echo"
    FILTERED = "filtered"
    FAILED = "failed"

    @property
    def outcome(self) -> Outcome:
        """The outcome of a score that stands on this reply."""
        return _OUTCOMES[self]


_OUTCOMES = {
    ReplyStatus.PARSED: Outcome.SCORED,
    ReplyStatus.UNPARSEABLE: Outcome.UNPARSEABLE_REPLY,
    ReplyStatus.TRUNCATED: Outcome.TRUNCATED_REPLY,
    ReplyStatus.EMPTY: Outcome.EMPTY_REPLY,
    ReplyStatus.TEMPLATE_ECHO: Outcome.TEMPLATE_ECHO,
    ReplyStatus.FILTERED: Outcome.REQUEST_REFUSED,
    ReplyStatus.FAILED: Outcome.ENGINE_FAILURE,
}


class ReplyPolicy(StrEnum):
    """What to do with a reply that has no verdict."""

    STRICT = "strict"
    """It is unscored."""
    AS_PUBLISHED = "as_published"
    """It counts for what the training code of arXiv 2602.13551 makes of it (`published`), which is never nothing. For
    reproduction only.
    """


class ReplyFormat(StrEnum):
    """What a template asks the model to answer with."""

    JSON = "json"
    """An object with the keys "REASONING" and "INFERRED INSTRUCTION"."""
    TEXT = "text"
    """The instruction and nothing else."""


@dataclass(slots=True)
class InferredInstruction:
    """What was read from a reply: `instruction` is None exactly when `status` is not `ReplyStatus.PARSED`."""

    status: ReplyStatus
    instruction: str | None = None
    reasoning: str | None = None


def parse_inferred_instruction(
    reply: str | None,
    finish_reason: str | None = "stop",
    *,
    reply_format: ReplyFormat = ReplyFormat.JSON,
    policy: ReplyPolicy = ReplyPolicy.STRICT,
    template_text: str = "",
) -> InferredInstruction:
    """Read the inferred instruction from a model's reply.

    A reply that repeats a part of the template's fixed text (`Template.fixed_text`) is an echo. One that may not be
    whole, by its finish reason (`core/ending.py`), counts only as a complete JSON object.

    Example:
        >>> parse_inferred_instruction('{"REASONING": "...", "INFERRED INSTRUCTION": "Name a fruit."}').instruction
        'Name a fruit.'
        >>> parse_inferred_instruction('{"REASONING": "The', finish_reason="length").status
        <ReplyStatus.TRUNCATED: 'truncated'>
    """
    if policy is ReplyPolicy.AS_PUBLISHED:
        published = read_as_published(reply)
        return InferredInstruction(ReplyStatus.PARSED, published.instruction, published.reasoning)
    if reply_format is ReplyFormat.JSON:
        verdict = _read_verdict(reply, finish_reason, INSTRUCTION_KEY)
    else:
        verdict = _read_plain(reply, finish_reason)
    if isinstance(verdict, ReplyStatus):
        return InferredInstruction(verdict)
    if not isinstance(verdict.value, str):
        return InferredInstruction(ReplyStatus.UNPARSEABLE)
    if is_template_echo(verdict.value, template_text):
        return InferredInstruction(ReplyStatus.TEMPLATE_ECHO)
    return InferredInstruction(ReplyStatus.PARSED, verdict.value.strip(), verdict.reasoning)


def _read_verdict(
    reply: str | None, finish_reason: str | None, key: VerdictKey, shown: Sequence[str] = ()
) -> Verdict | ReplyStatus:
    """Find the verdict under a key, or say why there is none; a blank one counts as none."""
    ending = Ending.of(finish_reason)
    text = _readable(reply, ending)
    if isinstance(text, ReplyStatus):
        return text
    text = _without_quotations(text, key, shown) if shown else text
    verdict = find_verdict(text, key, truncated=ending is not Ending.NATURAL)
    if verdict is None:
        return _UNREAD[ending]
    value = verdict.value
    return ReplyStatus.EMPTY if value is None or (isinstance(value, str) and not value.strip()) else verdict


def _read_plain(reply: str | None, finish_reason: str | None) -> Verdict | ReplyStatus:
    """Take a whole reply that holds nothing but the instruction, or say why it does not."""
    ending = Ending.of(finish_reason)
    text = _readable(reply, ending)
    if isinstance(text, ReplyStatus):
        return text
    if ending is not Ending.NATURAL:
        return _UNREAD[ending]
    answer = strip_thinking(text)
    if answer is None:
        return ReplyStatus.UNPARSEABLE
    instruction = _plain_instruction(answer)
    return Verdict(instruction) if instruction else ReplyStatus.EMPTY


def _readable(reply: str | None, ending: Ending) -> str | ReplyStatus:
    """Return the text of a reply, or why there is none to read."""
    if ending in (Ending.FAILED, Ending.FILTERED):
        return _UNREAD[ending]
    if reply and not reply.isspace():
        return reply
    return ReplyStatus.TRUNCATED if ending is Ending.CUT else ReplyStatus.EMPTY


_UNREAD = {
    Ending.NATURAL: ReplyStatus.UNPARSEABLE,
    Ending.CUT: ReplyStatus.TRUNCATED,
    Ending.FILTERED: ReplyStatus.FILTERED,
    Ending.FAILED: ReplyStatus.FAILED,
    Ending.UNKNOWN: ReplyStatus.UNPARSEABLE,
}
"""What a reply is in which no verdict was found."""


_LEADING_LABEL = re.compile(
    r"""\A[\s*#]*(?:
        (?:(?:the|a)\s+(?:user(?:['’]s)?\s+)?)?  # "The user's question or instruction is:"
        (?:(?:most\s+)?(?:likely|probable|plausible)\s+)?(?:(?:inferred|original)\s+)?
        (?:question|instruction|request|prompt|user)(?:\s+or\s+(?:question|instruction|request))?
        (?:\s+(?:is|was))?[\s*]*[:：]
      | (?:the|a)\s+user\s+(?:asked|asks|said|wrote)\s*(?::|,(?=\s*["“'‘`]))  # 'A user asked, "..."'
    )[\s*]*""",
    re.IGNORECASE | re.VERBOSE,
)
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "`": "`"}


def _plain_instruction(text: str) -> str:
    """The instruction of a reply that holds nothing else, without a label or quotes around the whole."""
    text = _LEADING_LABEL.sub("", unwrap_reply(text)).strip()
    closing = _QUOTES.get(text[:1])
    if closing is not None and len(text) > 1 and text.endswith(closing) and closing not in text[1:-1]:
        text = text[1:-1].strip()
    return text


_PLACEHOLDER = re.compile(
    r"[<\[{(]?\s*(?:\.{2,}|…|(?:your|the|an?|inferred|original|user|instruction|explanation|prompt|text|here|goes|"
    r"insert|system|all|messages?|[\s_.…-])+)\s*[>\]})]?",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"[<\[{(].*[>\]})]|[.…\s]+", re.DOTALL)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SHORTEST_ECHO = 20
_LONGEST_PLACEHOLDER = 100
_ECHOED_WORDS = 5
# fmt: off
_FRAME_WORDS = frozenset({
    "a", "an", "are", "can", "could", "did", "do", "does", "here", "is", "it", "of", "please",
    "that", "the", "this", "to", "was", "were", "what", "with",
})
# fmt: on
"""Words that an echo may be wrapped in: "What is the user's question or instruction?"."""


def is_template_echo(instruction: str, template_text: str = "") -> bool:
    """Whether an instruction is the template's placeholder, or its own text, instead of an inference.

    A piece of the template's text is an echo, also when it is wrapped in words that say nothing. One word that is not
    the template's makes it an inference.
    """
    folded = " ".join(instruction.lower().split())
    if len(folded) <= _LONGEST_PLACEHOLDER and _BRACKETED.fullmatch(folded) and _PLACEHOLDER.fullmatch(folded):
        return True
    return len(folded) >= _SHORTEST_ECHO and (folded in template_text or _repeats_words(folded, template_text))


def _repeats_words(instruction: str, template_text: str) -> bool:
    """Whether an instruction says nothing but the template's words, some of them in the template's order."""
    known, template = _words_of(template_text)
    words = []
    for word in _WORD.finditer(instruction):
        if word[0] not in known:  # mostly one of the first
            return False
        words.append(word[0])
    runs = (words[start : start + _ECHOED_WORDS] for start in range(len(words) - _ECHOED_WORDS + 1))
    return any(f" {' '.join(run)} " in template for run in runs)


@lru_cache(maxsize=32)
def _words_of(template_text: str) -> tuple[frozenset[str], str]:
    """The words that say nothing after this template, and the template's own in their order; few are ever used."""
    words = _WORD.findall(template_text)
    return _FRAME_WORDS.union(words), f" {' '.join(words)} "


LOWEST_RATING, HIGHEST_RATING = 1, 10
"""The range of ratings, both ends included."""

RATING_KEY = VerdictKey.of("score", "rating")
PAIR_KEY = VerdictKey.of("better response")
LIST_KEY = VerdictKey.of("best response index")


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What was read from a judge's reply."""

    status: ReplyStatus
    value: float | None = None
    """The rating, 1 to 10 (as published: any, divided by 10); or the place of the chosen response among those shown,
    from 0. None exactly when `status` is not `ReplyStatus.PARSED`.
    """
    reasoning: str | None = None


def parse_rating(
    reply: str | None,
    finish_reason: str | None = "stop",
    *,
    shown: Sequence[str] = (),
    policy: ReplyPolicy = ReplyPolicy.STRICT,
) -> JudgeReply:
    """Read a rating of 1 to 10 under the key "SCORE". Anything outside is not a rating; nothing is clipped."""
    if policy is ReplyPolicy.AS_PUBLISHED:
        return JudgeReply(ReplyStatus.PARSED, rate_as_published(reply))
    return _parse_judge(reply, finish_reason, RATING_KEY, shown, _read_rating)


def parse_pair_choice(
    reply: str | None, finish_reason: str | None = "stop", *, shown: Sequence[str] = ()
) -> JudgeReply:
    """Read which of two responses is better, under the key "BETTER_RESPONSE": 0 for "A", 1 for "B"."""
    return _parse_judge(reply, finish_reason, PAIR_KEY, shown, _read_letter)


def parse_list_choice(reply: str | None, finish_reason: str | None = "stop", *, shown: Sequence[str]) -> JudgeReply:
    """Read which response of a list is the best, under the key "BEST_RESPONSE_INDEX", from 0."""

    def read_index(value: object) -> int | None:
        index = _read_index(value)
        return index if index is not None and 0 <= index < len(shown) else None

    return _parse_judge(reply, finish_reason, LIST_KEY, shown, read_index)


def _parse_judge(
    reply: str | None,
    finish_reason: str | None,
    key: VerdictKey,
    shown: Sequence[str],
    read: Callable[[object], float | None],
) -> JudgeReply:
    verdict = _read_verdict(reply, finish_reason, key, shown)
    if isinstance(verdict, ReplyStatus):
        return JudgeReply(verdict)
    value = _first_line(verdict.value) if isinstance(verdict.value, str) else verdict.value
    if value == "":
        return JudgeReply(ReplyStatus.EMPTY)
    read_value = read(value.strip("<>") if isinstance(value, str) else value)  # "<your-score>" asks for "<8>"
    if read_value is not None:
        return JudgeReply(ReplyStatus.PARSED, read_value, verdict.reasoning)
    echoed = isinstance(value, str) and value.startswith("<") and value.endswith(">")
    return JudgeReply(ReplyStatus.TEMPLATE_ECHO if echoed else ReplyStatus.UNPARSEABLE)


def _without_quotations(reply: str, key: VerdictKey, shown: Sequence[str]) -> str:
    """Leave out the lines that stand in a shown response; all lines, where too many mention the verdict."""
    planted = [form for text in shown if key.mention.search(text) for form in {text, json.dumps(text)[1:-1]}]
    if not planted or len(reply) > MAX_CHARACTERS:
        return reply
    lines = reply.split("\n")
    doubtful = [number for number, line in enumerate(lines) if key.mention.search(line)]
    if len(doubtful) > _MOST_MENTIONS:
        return ""
    quoted = {number for number in doubtful if _stands_in(planted, lines[number])}
    return "\n".join(line for number, line in enumerate(lines) if number not in quoted)


_MOST_MENTIONS = 64
"""A reply that mentions its verdict in more lines has none: each of them is looked for in the responses."""


def _stands_in(texts: Sequence[str], line: str) -> bool:
    """Whether a line, or the object in it, stands in one of the texts."""
    line = line.strip(' \t\r"`')
    parts = (line, line[line.index("{") : line.rfind("}") + 1 or len(line)]) if "{" in line else (line,)
    return any(part in text for text in texts for part in parts)


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
