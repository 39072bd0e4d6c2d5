r"""Read an object that is almost JSON, and lose no letter of it. Nothing here raises on a text.

Models forget to escape quotes and backslashes, leave out the last brace, or write other quotes and colons. An object
is taken apart at keys that are known beforehand: all that stands between two of them is a value, whatever it holds.
Where it is not certain where a value ends there is none.

A string has careless backslashes if one begins no escape of JSON, or one that nobody means: `\b`, `\f`, `\r` before a
letter, a LaTeX command such as `\theta`, a path such as `C:\new`. All of them are then literal, but for quotes,
`\u00e9`, and line breaks and tabs, unless these are part of a path or the text is about them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_DOUBLE, _SINGLE = '"“”„＂', "'‘’"
QUOTE, COLON = _DOUBLE + _SINGLE, ":："
_KINDS = {quote: kind for kind in (_DOUBLE, _SINGLE) for quote in kind}
"""A quote is closed by any of its kind."""

REASONING_WORDS = ("reasoning", "explanation", "rationale")


def compile_members(words: str) -> re.Pattern[str]:
    """Make the pattern of an object's members: a key that `words` matches (the group "verdict"), or a reasoning."""
    key = rf"(?:(?P<verdict>{words})|(?:{'|'.join(REASONING_WORDS)}))"
    end = rf"(?:[{QUOTE}]\s*[{COLON}]|\s*[{COLON}](?=\s*[{QUOTE}]))"
    return re.compile(rf"(?:(?<!\\)[{QUOTE}]|(?<=[{{,，\s])){key}{end}", re.IGNORECASE)


_D, _S = f"[{_DOUBLE}]", f"[{_SINGLE}]"
_SIMPLE = (
    rf"(?:{_D}[^{_DOUBLE}\n]{{1,40}}{_D}|{_S}[^{_SINGLE}\n]{{1,40}}{_S})\s*[{COLON}]\s*"
    rf"(?:{_D}[^{_DOUBLE}\\]*{_D}|{_S}[^{_SINGLE}\\]*{_S}|[\w.+-]+)\s*"
)
"""A member in good order, under any key, with a string or a word."""
_MEMBERS_BEFORE = re.compile(rf"\s*(?:{_SIMPLE}[,，]\s*){{0,4}}\Z")
_MEMBER_AFTER = re.compile(rf"(?<=[{QUOTE}\w])\s*[,，]\s*{_SIMPLE}\Z")
_LIKE_A_MEMBER = re.compile(
    rf"{_D}\s*[,，](?:[^\S\n]*\n\s*{_D}[^{_DOUBLE}\n]{{1,40}}|\s*{_D}[A-Z][A-Z _-]+){_D}\s*[{COLON}]"
)
"""A comma and a key on a line of its own, or in capitals: too much like another member to be text."""
_BARE = re.compile(rf"([\w./+-]+)\s*[,，]\s*{_D}[^{_DOUBLE}\n]{{1,40}}{_D}\s*[{COLON}]")
"""A word that a comma and a key follow."""
_MOST_MEMBERS = 4


def read_members(text: str, members: re.Pattern[str]) -> tuple[object, str | None] | None:
    """Read the verdict and the reasoning of an object that begins in `text`, in the order of `compile_members`.

    The verdict's key has to stand there once, in no object inside the object. None where anything is uncertain.

    Example:
        >>> read_members('{"REASONING": "He says "hi".", "SCORE": 7}', compile_members("score"))
        (7, 'He says "hi".')
    """
    if text.startswith("｛"):
        text = text.replace("｛", "{").replace("｝", "}")
    if members.match(text):
        text = "{" + text
    start = text.find("{")
    end = _find_end(text, start)
    places = members.finditer(text)
    found = [match for match in places if match["verdict"] or _follows_comma(text, match.start(), start)]
    verdicts = [match for match in found if match["verdict"]]
    if end is None or len(verdicts) != 1 or len(found) > 2 or found[-1].end() > end:
        return None
    [verdict] = verdicts
    if _depth(text[start : verdict.start()]) != 1 or not _follows_comma(text, verdict.start(), start):
        return None
    if not _MEMBERS_BEFORE.match(text[start + 1 : found[0].start()]):
        return None
    ends = [*(match.start() for match in found[1:]), end]
    try:
        values = [_read_value(text, match.end(), stop) for match, stop in zip(found, ends, strict=True)]
    except ValueError:
        return None
    value = values.pop(found.index(verdict))
    reasoning = values[0] if values else None
    return value, reasoning if isinstance(reasoning, str) else None


def _find_end(text: str, start: int) -> int | None:
    """Where the object's last brace stands, or would stand; None where its braces do not match."""
    last = text.rfind("}")
    if start < 0:
        return None
    depth = _depth(text[start:])
    if depth == 0 and last > start:
        after = text[last + 1 :]
        return last if is_closing(after) or (is_line_start(text[:start]) and not is_rest(after)) else None
    return len(text.rstrip().removesuffix("```").rstrip()) if depth == 1 else None


def _depth(text: str) -> int:
    r"""How many braces a text leaves open; those that LaTeX shows, as in `\left\{`, are none."""
    return text.count("{") - text.count("\\{") - text.count("}") + text.count("\\}")


def is_line_start(before: str) -> bool:
    """Whether nothing but an opening tag stands on the line before something."""
    before = before.rstrip(" \t")
    if before[-8:].lower() == "<answer>":
        before = before[:-8].rstrip(" \t")
    return not before or before.endswith("\n")


def is_closing(after: str) -> bool:
    """Whether nothing but the end of a fence and of a tag follows something."""
    after = after.strip()
    if after[-9:].lower() == "</answer>":
        after = after[:-9].rstrip()
    return after in ("", "```")


def is_rest(after: str) -> bool:
    """Whether what follows an object may be the rest of a string, which a brace after a careless quote ended."""
    if after.strip() == ",":
        return False
    if after[:1].isalnum() or after.lstrip(" \t").startswith((*",:]", *_DOUBLE)) or after.count('"') % 2:
        return True
    return after.count("}") > after.count("{") and any(map(str.isalnum, after[: after.rfind("}")]))


def _follows_comma(text: str, place: int, start: int) -> bool:
    """Whether a member may begin at a place: after the object's own brace, a comma, or a line that ends a value."""
    end = place
    while end > start and text[end - 1].isspace():
        end -= 1
    previous = text[end - 1]
    if previous == "{":
        return end - 1 == start
    return previous in ",，" or ("\n" in text[end:place] and (previous in _KINDS or previous.isalnum()))


def _read_value(text: str, start: int, end: int) -> object:
    """Read what stands between a key and the next one; a ValueError where it is no whole string or bare word."""
    raw = text[start:end].strip().rstrip(",，").rstrip()
    for _ in range(_MOST_MEMBERS):
        other = _MEMBER_AFTER.search(raw)
        if other is None:
            break
        raw = raw[: other.start()]
    whole = _STRING.match(raw)
    if whole and _LIKE_A_MEMBER.match(raw, whole.end() - 1):
        raw = whole[0]  # whatever the member after it holds
    elif bare := _BARE.match(raw):
        raw = bare[1]
    kind = _KINDS.get(raw[:1])
    if kind:
        if len(raw) < 2 or raw[-1] not in kind or (raw[-2] == "\\" and raw[-3:-2] != "\\"):
            raise ValueError("the string does not end")
        if _LIKE_A_MEMBER.search(raw):
            raise ValueError("it may hold another member")
        return unescape(raw[1:-1])
    if not raw or raw[0] in "{[" or any(quote in raw for quote in _DOUBLE):
        raise ValueError("no string and no word")
    try:
        return json.loads(raw)
    except ValueError:
        return None if raw.lower() == "none" else raw


_DOUBTFUL = re.compile(r"\\[^\"\\/]")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def mend_backslashes(text: str) -> str:
    r"""Escape the backslashes that are literal in the strings of a text of which nothing else is careless.

    Example:
        >>> print(mend_backslashes(r'{"a": "$\frac{1}{2}$", "b": "one\ntwo"}'))
        {"a": "$\\frac{1}{2}$", "b": "one\ntwo"}
    """
    if not _DOUBTFUL.search(text):
        return text

    def mend(string: re.Match[str]) -> str:
        raw = string[0][1:-1]
        return json.dumps(unescape(raw), ensure_ascii=False) if _is_careless(raw) else string[0]

    return _STRING.sub(mend, text)


_T_NAMES = (
    "an anh au heta imes frac binom op o ilde riangle riangleq riangleleft riangleright herefore ag hinspace itle iny"
)
_N_NAMES = (
    "e eq eg u i ot otin abla atural mid less gtr sim cong prec succ exists parallel leq geq leqslant geqslant "
    "subseteq supseteq earrow warrow leftarrow rightarrow Leftarrow Rightarrow onumber olimits oindent icefrac "
    "ewline ewcommand ewpage"
)
_TEXT = "ext(?:bf|it|rm|tt|sf|sc|sl|up|normal|style|color|width|backslash|superscript|subscript)?"
_COMMAND = rf"(?:t(?:{'|'.join(_T_NAMES.split())}|{_TEXT})|n(?:{'|'.join(_N_NAMES.split())}))(?![a-zA-Z])"
"""A command of LaTeX that begins like an escape."""
_IN_FORMULAS = frozenset(rf"\n{name}" for name in ("e", "u", "i", "mid", "less", "sim", "exists", "parallel"))
"""Commands that could be a line break and a word."""
_PATH = r"(?<!\w)[c-pr-zC-PR-Z]:(?:\\(?!n[A-Z0-9])[\w-]+(?:\.[\w-]+)*(?: [A-Z(][\w()-]*(?=[ \\]))*)+"
"""A path with a drive. Q and letters before C are rather the names of parts of a text."""
_DRIVE = re.compile(_PATH)
_FILE = r"(?<![\w\\-])[\w-]++(?=[\w\\-]*\\[^nt])(?:\\[\w-]+)+\.[a-z]\w{0,4}(?!\w)"
"""A path to a file, of which not all could be line breaks."""
_ESCAPE = re.compile(rf"(?P<command>\\{_COMMAND})|\\(?P<escape>u[0-9a-fA-F]{{4}}|.|\Z)", re.DOTALL)
_LITERAL = re.compile(
    rf"{_PATH}|{_FILE}|\\\\[\w.-]+(?:\\[\w.-]*\w)+|\\\\|(?P<command>\\{_COMMAND})"
    rf"|(?P<space>(?:(?!\\{_COMMAND})\\(?:r\\n|n|t))+)|\\(?P<escape>u[0-9a-fA-F]{{4}}|[\"'])"
)
"""What a string with careless backslashes holds: paths, commands, and what may be an escape nevertheless."""
_MEANINGS: Mapping[str, str] = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def unescape(raw: str) -> str:
    r"""Return what the inside of a string means, where its quotes or backslashes may be careless.

    Example:
        >>> unescape(r"Simplify $\frac{a}{b}$."), unescape(r"Line one.\nLine two.")
        ('Simplify $\\frac{a}{b}$.', 'Line one.\nLine two.')
    """
    if "\\" not in raw:
        return raw
    return _LITERAL.sub(_keep_literal, raw) if _is_careless(raw) else _ESCAPE.sub(_decode, raw)


def _decode(found: re.Match[str]) -> str:
    if found["command"]:  # a line break and a word
        return "\n" + found[0][2:]
    escape = found["escape"]
    return chr(int(escape[1:], 16)) if len(escape) > 1 else _MEANINGS.get(escape, escape)


def _is_careless(raw: str) -> bool:
    return bool(_DRIVE.search(raw)) or any(map(_is_literal, _ESCAPE.finditer(raw)))


def _is_literal(found: re.Match[str]) -> bool:
    """Whether the backslash of an escape was surely meant as one."""
    raw, start, end = found.string, found.start(), found.end()
    if found["command"]:
        before = raw[max(start - 100, 0) : start]
        return found[0] not in _IN_FORMULAS or before[-1:] in _BEFORE_A_COMMAND or "$" in before
    escape = found["escape"]
    if escape == "r":
        return raw[end : end + 1].isalpha()
    if escape in ("n", "t"):
        before = raw[max(start - 3, 0) : start]
        if before[-1:] not in _QUOTES or before[:-1].strip("\\")[-1:] not in _OPENING:
            return False
        return raw[end : end + 2].lstrip("\\").startswith(before[-1]) and _is_mentioned(found)
    return escape not in _LEGAL and len(escape) != 5


_OPENING = frozenset(["", *" ([,=:"])
_BEFORE_A_COMMAND = frozenset(["", *" (={+-^_"])
_LEGAL = frozenset("\"\\/'")  # JavaScript and Python have '


def _keep_literal(found: re.Match[str]) -> str:
    if found["command"]:
        return found[0] if _is_literal(found) else _decode(found)
    if found["escape"]:
        return _decode(found)
    if not found["space"] or _is_mentioned(found):
        return found[0]
    return found[0].replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")


_AFTER_A_QUOTE = frozenset(["", *" \n),;:.]}?"])
_SPACES = frozenset(["", " ", "\n"])
_QUOTES, _STOPS, _CLOSING = frozenset("\"'`"), frozenset(".,;!?"), frozenset(")]")


def _is_mentioned(escape: re.Match[str]) -> bool:
    r"""Whether a text is about an escape, as in `split("\n")`, "[\t\n]" or "the \n character"."""
    raw, start, end = escape.string, escape.start(), escape.end()
    if raw[end : end + 2] in (r"\"", r"\'"):
        end += 1
    before, after, next_one = raw[start - 1 : start] if start else "", raw[end : end + 1], raw[end + 1 : end + 2]
    if after in _QUOTES:
        return next_one in _AFTER_A_QUOTE
    if after in _STOPS and next_one in _SPACES:
        return True
    if before in _SPACES:
        return len(escape[0]) == 2 and (after in _SPACES or after in _CLOSING)
    return before in "[(" and after in _CLOSING
