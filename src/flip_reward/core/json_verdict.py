"""Find a verdict, the value under a wanted key, in a model's reply. Nothing here raises on a reply.

A reply is read in this order; the first rule that applies decides:

1. the last complete JSON object that holds the wanted key, on its own level or nested in objects;
2. the only object with the key, repaired by json-repair, when it is incomplete or malformed;
3. the only line that begins with the key and a colon.

A response may plant a verdict, and a model may quote it while it reasons. Text that quotes a verdict inside another
value never becomes the verdict. Where a quoted one cannot be told from the real one there is no verdict, and the
response is unscored. So an object counts only if it begins a line or ends the reply, if no object is open around it,
and if the key does not occur after it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from flip_reward.core.response import replace_lone_surrogates, unwrap_answer
from flip_reward.core.thinking import find_answer

MAX_CHARACTERS = 1 << 16
"""Longer replies are not read: no verdict is that long, and repairing one would block everything else."""


def _fold(key: str) -> str:
    return "".join(filter(str.isalpha, key.lower()))


@dataclass(frozen=True, slots=True)
class VerdictKey:
    """The key that carries a verdict.

    Attributes:
        spellings: Accepted spellings, folded to lower-case letters; earlier ones win over later ones.
        label: Matches the key at the start of a line of plain text.
        quoted: Matches the key as a member of an object.
    """

    spellings: tuple[str, ...]
    label: re.Pattern[str]
    quoted: re.Pattern[str]

    @classmethod
    def of(cls, *spellings: str) -> VerdictKey:
        """Build the key from its spellings in words, such as "INFERRED INSTRUCTION"."""
        words = "|".join(r"[\s_-]*".join(map(re.escape, spelling.split())) for spelling in spellings)
        return cls(
            tuple(map(_fold, spellings)),
            re.compile(rf"^[ \t*#>_-]*(?:{words})[ \t*_]*:[ \t*_]*", re.IGNORECASE | re.MULTILINE),
            re.compile(rf"[\"'“”‘’](?:{words})[\"'“”‘’]\s*:", re.IGNORECASE),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The value under the wanted key, of any JSON type, and the reasoning beside it, where that is a text."""

    value: object
    reasoning: str | None = None


_REASONING_SPELLINGS = ("reasoning", "explanation", "rationale")
_MAX_NESTING = 3
_MAX_BROKEN = 200
_NOTHING_MORE = re.compile(r"\s*(?:```)?\s*(?:</answer>)?\s*\Z", re.IGNORECASE)
_LINE_START = re.compile(r"(?:\A|\n)[ \t]*(?:<answer>)?[ \t]*\Z", re.IGNORECASE)
_REASONING_LABEL = re.compile(r"^[ \t*#>_-]*reasoning[ \t*_]*:[ \t*_]*", re.IGNORECASE | re.MULTILINE)
_DECODER = json.JSONDecoder(strict=False)  # models leave line breaks and control characters unescaped


def find_verdict(reply: str, key: VerdictKey, *, truncated: bool = False) -> Verdict | None:
    r"""Find the value that a reply gives under `key`; None when there is none, or it is not clear which one holds.

    What a truncated reply left open is not a verdict.

    Example:
        >>> find_verdict('Sure:\n{"REASONING": "short", "SCORE": 7}\nDone.', VerdictKey.of("score"))
        Verdict(value=7, reasoning='short')
    """
    if len(reply) > MAX_CHARACTERS:
        return None
    objects, broken = _scan_objects(reply)
    answer_start = _find_answer(reply, objects)
    if answer_start is None:
        return None
    for candidate in reversed(objects):
        if candidate.start < answer_start:
            break
        verdict = _verdict_in(candidate.value, key)
        if verdict is not None:
            before = [position for position in broken if answer_start <= position < candidate.start] if broken else []
            first = not reply[answer_start : candidate.start].strip()
            return verdict if _stands_alone(reply, key, candidate, before, first=first, truncated=truncated) else None
    if truncated:
        return None
    text = unwrap_reply(reply[answer_start:])
    return _mended(text, key) if key.quoted.search(text) else _labelled(text, key)


@dataclass(frozen=True, slots=True)
class _Object:
    """A complete JSON object and where it stands."""

    start: int
    end: int
    value: Mapping[str, object]


def _scan_objects(reply: str) -> tuple[list[_Object], list[int]]:
    """Find the complete objects, none inside another, and the opening braces that open none."""
    objects: list[_Object] = []
    broken: list[int] = []
    position = reply.find("{")
    while position >= 0 and len(broken) < _MAX_BROKEN:
        try:
            value, end = _DECODER.raw_decode(reply, position)
        except (ValueError, RecursionError):
            broken.append(position)
            end = position + 1
        else:
            objects.append(_Object(position, end, value))
        position = reply.find("{", end)
    return objects, broken


def _find_answer(reply: str, objects: list[_Object]) -> int | None:
    """Where the thinking ends; a tag inside an object's strings ends nothing. None when it never ends."""
    starts = [each.start for each in objects]

    def is_inside(place: int) -> bool:
        number = bisect_left(starts, place)
        return number > 0 and place < objects[number - 1].end

    found = find_answer(reply, ignored=is_inside)
    return None if found is None else found.start


def _stands_alone(
    reply: str, key: VerdictKey, found: _Object, broken: list[int], *, first: bool, truncated: bool
) -> bool:
    if key.quoted.search(reply, found.end):
        return False
    if broken:
        between = reply[broken[0] : found.start]
        if between.count("{") > between.count("}"):
            return False  # it stands inside an object that cannot be read
    if _NOTHING_MORE.match(reply, found.end):
        return True
    return not truncated and not broken and (first or bool(_LINE_START.search(reply, 0, found.start)))


def _mended(text: str, key: VerdictKey) -> Verdict | None:
    """Read an object that is not JSON: stray quotes, a missing brace, a trailing comma, curly quotes."""
    start = text.find("{")
    places = list(key.quoted.finditer(text))
    if start < 0 or len(places) != 1 or places[0].start() < start:
        return None
    before = text[start : places[0].start()]
    if before.count("{") - before.count("}") != 1:
        return None  # the key stands in an object inside the object
    import json_repair

    try:
        value = json_repair.loads(text[start:])
    except (ValueError, RecursionError, IndexError, TypeError):
        return None
    return _verdict_in(value, key) if isinstance(value, dict) else None


def _labelled(text: str, key: VerdictKey) -> Verdict | None:
    labels = list(key.label.finditer(text))
    if len(labels) != 1:
        return None
    value = text[labels[0].end() :].strip().strip("*").strip()
    reasoning = _REASONING_LABEL.search(text, 0, labels[0].start())
    return Verdict(
        replace_lone_surrogates(value),
        replace_lone_surrogates(text[reasoning.end() : labels[0].start()].strip(" *\n")) if reasoning else None,
    )


def _verdict_in(value: Mapping[str, object], key: VerdictKey, depth: int = _MAX_NESTING) -> Verdict | None:
    folded = {_fold(name): member for name, member in value.items()}
    for spelling in key.spellings:
        if spelling in folded:
            found, reasoning = folded[spelling], None
            for name in _REASONING_SPELLINGS:
                if name in folded:
                    reasoning = folded[name]
                    break
            return Verdict(
                replace_lone_surrogates(found) if isinstance(found, str) else found,
                replace_lone_surrogates(reasoning) if isinstance(reasoning, str) else None,
            )
    if depth:
        for name, member in value.items():
            if isinstance(member, dict) and _fold(name) not in _REASONING_SPELLINGS:
                verdict = _verdict_in(member, key, depth - 1)
                if verdict is not None:
                    return verdict
    return None


_FENCE = re.compile(r"\A```[\w-]*\s*\n(.*?)\n?```\s*\Z", re.DOTALL)


def unwrap_reply(text: str) -> str:
    """Take off answer tags and a code fence around the whole reply."""
    text = unwrap_answer(text).strip()
    fenced = _FENCE.match(text)
    return fenced.group(1).strip() if fenced else text
