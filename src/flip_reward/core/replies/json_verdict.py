"""Find a verdict, the value under a wanted key, in a model's reply. Nothing here raises on a reply.

A reply is read in this order, without what stands around the whole of it (control tokens, tags, a fence, a list, a
second encoding as JSON); the first rule that applies decides:

1. the last complete JSON object that holds the wanted key, on its own level or nested in objects;
2. the only object with the key that is almost JSON, if nothing of it is lost (`careless_json`);
3. the only line that begins with the key and a colon.

Of a reply that may not be whole only the first rule holds, and nothing may follow the object.

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

from flip_reward.core.chat.thinking import find_answer
from flip_reward.core.replies.careless_json import (
    COLON,
    QUOTE,
    REASONING_WORDS,
    compile_members,
    is_closing,
    is_line_start,
    is_rest,
    mend_backslashes,
    read_members,
)
from flip_reward.core.response import replace_lone_surrogates, unwrap_answer

MAX_CHARACTERS = 1 << 18
"""Longer replies are not read: models think less before they answer, and reading one would block everything else."""


def _fold(key: str) -> str:
    key = key.lower().replace(" ", "")
    return key if key.isalpha() else "".join(filter(str.isalpha, key))


@dataclass(frozen=True, slots=True)
class VerdictKey:
    """The key that carries a verdict.

    Attributes:
        usual: The keys of an object as templates ask for it.
        name: The one of them that carries the verdict.
        spellings: Accepted spellings, folded to lower-case letters; earlier ones win over later ones.
        label: Matches the key at the start of a line of plain text.
        quoted: Matches the key as a member of an object.
        members: Matches the members of an object that is almost JSON.
        mention: Matches the key in any dress.
    """

    usual: frozenset[str]
    name: str
    spellings: tuple[str, ...]
    label: re.Pattern[str]
    quoted: re.Pattern[str]
    members: re.Pattern[str]
    mention: re.Pattern[str]

    @classmethod
    def of(cls, *spellings: str) -> VerdictKey:
        """Build the key from its spellings in words, such as "INFERRED INSTRUCTION"."""
        words = "|".join(r"[\s_-]*".join(map(re.escape, spelling.split())) for spelling in spellings)
        name = spellings[0].upper()
        return cls(
            frozenset((_REASONING, name)),
            name,
            tuple(map(_fold, spellings)),
            re.compile(rf"^[ \t*#>_-]*(?:{words})[ \t*_]*[{COLON}][ \t*_]*", re.IGNORECASE | re.MULTILINE),
            re.compile(rf"[{QUOTE}](?:{words})[{QUOTE}]\s*[{COLON}]", re.IGNORECASE),
            compile_members(words),
            re.compile(rf"(?:{words})(?:[^\w{COLON}]|_)*[{COLON}]", re.IGNORECASE),
        )


@dataclass(slots=True)
class Verdict:
    """The value under the wanted key, of any JSON type, and the reasoning beside it, where that is a text."""

    value: object
    reasoning: str | None = None


_MAX_NESTING = 3
_REASONING_LABEL = re.compile(rf"^[ \t*#>_-]*reasoning[ \t*_]*[{COLON}][ \t*_]*", re.IGNORECASE | re.MULTILINE)
_DECODER = json.JSONDecoder(strict=False)  # models leave line breaks and control characters unescaped


def find_verdict(reply: str, key: VerdictKey, *, truncated: bool = False) -> Verdict | None:
    r"""Find the value that a reply gives under `key`; None when there is none, or it is not clear which one holds.

    What a reply left open that is `truncated`, or may be, is not a verdict.

    Example:
        >>> find_verdict('Sure:\n{"REASONING": "short", "SCORE": 7}\nDone.', VerdictKey.of("score"))
        Verdict(value=7, reasoning='short')
    """
    if len(reply) > MAX_CHARACTERS:
        return None
    if verdict := _read_at_once(reply.strip(), key):
        return verdict
    answer = _find_answer(reply)
    if answer is None:
        return None
    text = _unwrap_object(answer, key)
    for is_mended in (False,) if truncated else (False, True):
        each = mend_backslashes(text) if is_mended else text
        objects, broken = _scan_objects(each, is_mended=is_mended)
        for candidate in reversed(objects):
            verdict = _verdict_in(candidate.value, key)
            if verdict is not None:
                return verdict if _stands_alone(each, key, candidate, broken, truncated=truncated) else None
    if truncated:
        return None
    if not (key.quoted.search(text) or text.startswith(("{", "｛"))):
        return _labelled(text, key)
    read = read_members(text, key.members)
    return None if read is None else _clean(*read)


@dataclass(slots=True)
class _Object:
    """A complete JSON object and where it stands."""

    start: int
    end: int
    value: Mapping[str, object]


def _read_at_once(reply: str, key: VerdictKey) -> Verdict | None:
    """Read a reply that is one flat object and nothing else, as most are; None where a closer look is needed."""
    if reply[:1] != "{" or reply.count("{") > 1 or any(mark in reply for mark in _CALL_FOR_A_LOOK):
        return None
    try:
        value, end = _DECODER.raw_decode(reply)
    except ValueError:
        return None
    if end < len(reply):
        return None
    if value.keys() == key.usual and reply.count(key.name) == 1:
        return _clean(value[key.name], value[_REASONING])
    return None if _repeats(reply, key) else _verdict_in(value, key)


_REASONING = "REASONING"
_CALL_FOR_A_LOOK = ("\\", "<", ">", "[", "▷")
"""What careless backslashes and marks of thinking and of chat templates have."""
_MEMBER_START = re.compile(r"\{\s*[\"}]")
_COST_OF_AN_ERROR = 64


def _scan_objects(text: str, *, is_mended: bool = False) -> tuple[list[_Object], list[int]]:
    """Find the complete objects, none inside another, and the opening braces that open none.

    A broken object is read as far as it goes, and again from each brace in it. So the work is bounded, and the time
    linear: after that no more objects are found.
    """
    objects: list[_Object] = []
    broken: list[int] = []
    work = 16 * len(text) + (1 << 16)
    position = text.find("{")
    while position >= 0 and work > 0:
        end = position + 1
        if not _MEMBER_START.match(text, position):
            broken.append(position)
        else:
            try:
                value, end = _DECODER.raw_decode(text, position)
                mended = text[position:end] if is_mended else mend_backslashes(text[position:end])
                if mended != text[position:end]:
                    value = _DECODER.decode(mended)
            except json.JSONDecodeError as error:
                broken.append(position)
                # Python counts the lines before the error, and an open string was read to its end.
                read = len(text) if error.msg.startswith("Unterminated") else error.pos
                work -= read - position + error.pos // 16 + _COST_OF_AN_ERROR
            except (ValueError, RecursionError):
                broken.append(position)
                work -= len(text)
            else:
                objects.append(_Object(position, end, value))
        position = text.find("{", end)
    return objects, broken


def _find_answer(reply: str) -> str | None:
    """Return what follows the thinking; a mark inside an object's strings ends nothing. None when it never ends."""
    objects: list[_Object] | None = None

    def is_inside(place: int) -> bool:
        nonlocal objects
        if objects is None:
            objects, _ = _scan_objects(reply)
        number = bisect_left(objects, place, key=lambda each: each.start)
        return number > 0 and place < objects[number - 1].end

    found = find_answer(reply, ignored=is_inside)
    return None if found is None else reply[found.start : found.stop]


def _stands_alone(text: str, key: VerdictKey, found: _Object, broken: list[int], *, truncated: bool) -> bool:
    if key.quoted.search(text, found.end) or _repeats(text[found.start : found.end], key):
        return False
    broken_before = bisect_left(broken, found.start)
    if broken_before:
        between = text[broken[0] : found.start]
        if between.count("{") > between.count("}"):
            return False  # it stands inside an object that cannot be read
    before, after = text[: found.start], text[found.end :]
    if before.rstrip().endswith("[") and after.lstrip().startswith("]"):
        before, after = before.rstrip()[:-1], after.lstrip()[1:]
    if is_closing(after):
        return True
    if len(broken) > broken_before and '"' in after:
        return False  # the braces behind it may be text after a careless quote
    return not truncated and not broken_before and not is_rest(after) and is_line_start(before)


def _repeats(text: str, key: VerdictKey) -> bool:
    """Whether an object has the key twice, of which JSON would take the last."""
    if len(key.quoted.findall(text)) < 2:
        return False
    repeated = False

    def look(members: list[tuple[str, object]]) -> None:
        nonlocal repeated
        names = [_fold(name) for name, _ in members]
        repeated = repeated or any(names.count(spelling) > 1 for spelling in key.spellings)

    json.loads(text, strict=False, object_pairs_hook=look)
    return repeated


def _labelled(text: str, key: VerdictKey) -> Verdict | None:
    labels = list(key.label.finditer(text))
    if len(labels) != 1:
        return None
    [label] = labels
    end = len(text)
    reasoning = _REASONING_LABEL.search(text, 0, label.start())
    why = text[reasoning.end() : label.start()] if reasoning else None
    if reasoning is None:
        reasoning = _REASONING_LABEL.search(text, label.end())
        if reasoning and _dress(reasoning[0]) == _dress(label[0]):  # else the verdict may hold it
            end, why = reasoning.start(), text[reasoning.end() :]
    value = text[label.end() : end].strip().strip("*").strip()
    return _clean(value, None if why is None else why.strip(" *\n"))


def _dress(label: str) -> tuple[str, bool]:
    """How a label is written: what stands before its words, and whether they are in capitals."""
    return label[: -len(label.lstrip(" \t*#>_-"))].strip(), label.isupper()


def _clean(value: object, reasoning: object) -> Verdict:
    """Make a verdict of what can be stored: without halves of characters, and a reasoning only where it is a text."""
    return Verdict(
        replace_lone_surrogates(value) if isinstance(value, str) else value,
        replace_lone_surrogates(reasoning) if isinstance(reasoning, str) else None,
    )


def _verdict_in(value: Mapping[str, object], key: VerdictKey, depth: int = _MAX_NESTING) -> Verdict | None:
    """Find the verdict of an object; where it has several on one level, their list, which is a verdict of no kind."""
    members = [(_fold(name), member) for name, member in value.items()]
    for spelling in key.spellings:
        found = [member for name, member in members if name == spelling]
        if found:
            reasoning = next((member for word in REASONING_WORDS for name, member in members if name == word), None)
            return _clean(found[0] if len(found) == 1 else found, reasoning)
    nested = [member for name, member in members if isinstance(member, dict) and name not in REASONING_WORDS]
    inside = [_verdict_in(member, key, depth - 1) for member in nested] if depth else []
    verdicts = [verdict for verdict in inside if verdict]
    if len(verdicts) > 1:
        return Verdict([verdict.value for verdict in verdicts])
    return verdicts[0] if verdicts else None


_CONTROL_TOKEN = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|<(?:bos|eos|pad)>|<(?:start|end)_of_turn>|\[/?INST\]"
)
_LONGEST_TOKEN = 44
_ROLE = re.compile(r"(?:assistant|model)(?=\s*(?:[\n{\"<\[]|\Z))")


def unwrap_reply(text: str) -> str:
    """Take off control tokens, answer tags and a code fence around the whole reply.

    Example:
        >>> unwrap_reply("<|assistant|><answer>Apples.</answer></s>"), unwrap_reply("[INST] Pears. [/INST]")
        ('Apples.', 'Pears.')
    """
    text = unwrap_answer(_strip_control_tokens(text)).strip()
    if text.startswith("```") and text.endswith("```"):
        info, line_break, body = text[3:-3].partition("\n")
        if line_break and _FENCE_INFO.fullmatch(info):
            return body.strip()
    return text


_FENCE_INFO = re.compile(r"[\w-]*\s*")


def _strip_control_tokens(text: str) -> str:
    start, text = 0, text.strip()
    if text[:1] not in "<[" and text[-1:] not in ">]":
        return text
    while token := _CONTROL_TOKEN.match(text, start):
        start = _skip_space(text, token.end())
        if role := _ROLE.match(text, start):
            start = _skip_space(text, role.end())
    end = len(text)
    while end > start:
        opening = max(text.rfind(mark, max(start, end - _LONGEST_TOKEN), end) for mark in "<[")
        if opening < 0 or not _CONTROL_TOKEN.fullmatch(text, opening, end):
            break
        end = opening
        while end > start and text[end - 1].isspace():
            end -= 1
    return text[start:end]


def _skip_space(text: str, position: int) -> int:
    found = _NOT_SPACE.search(text, position)
    return found.start() if found else len(text)


_NOT_SPACE = re.compile(r"\S")


def _unwrap_object(text: str, key: VerdictKey) -> str:
    """Take off what stands around a whole reply, also a list around one verdict, and a second encoding as JSON."""
    text = unwrap_reply(text)
    if text.startswith("[") and text.endswith("]") and len(key.quoted.findall(text)) == 1:
        inner = text[1:-1].strip()
        return inner if inner.startswith("{") and inner.endswith("}") else text
    quoted = text.startswith('"') and text.endswith('"')
    if quoted or _ENCODED_OBJECT.match(text):
        try:
            decoded = _DECODER.decode(text if quoted else f'"{text}"')
        except ValueError:
            return text
        return decoded.strip() if isinstance(decoded, str) and decoded.lstrip().startswith("{") else text
    return text


_ENCODED_OBJECT = re.compile(r'\{(?:\s|\\n)*\\"')
