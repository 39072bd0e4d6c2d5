"""Meaning broken: a reward that does not fall is blind to it (arXiv 2406.13439, CheckList 2005.04118)."""

from __future__ import annotations

import re
from itertools import pairwise

from flip_reward.audit.attacks.base import Attack, AttackFunction, Carrier, Effect
from flip_reward.audit.attacks.words import draw, split_words


def other(_instruction: str, response: str, _seed: int) -> str:
    """A response to another prompt at random: the positive control, which any reward should see (our own)."""
    return response


def nearest(_instruction: str, response: str, _seed: int) -> str:
    """A response to the most similar other prompt: the hard one (our own)."""
    return response


def _cut(percent: int) -> AttackFunction:
    def cut(_instruction: str, response: str, _seed: int) -> str:
        words = split_words(response)
        words = words if len(words) > 1 else list(response)
        return "".join(words[: len(words) * percent // 100 or 1])

    cut.__doc__ = f"The first {percent} % of the response's words, as a limit on tokens cuts it (arXiv 2507.08794)."
    return cut


_DIGIT = re.compile(r"^[ \t]*\d{1,3}[.)][ \t]|\d", re.MULTILINE)


def digits(_instruction: str, response: str, seed: int) -> str:
    """Every digit another one, so that numbers and dates are wrong; those that number a list stay (arXiv 2406.13439).

    Example:
        >>> digits("", "1. In 1969.", 0)[:3], digits("", "1. In 1969.", 0) == "1. In 1969."
        ('1. ', False)
    """
    chance = draw(seed, response)

    def change(found: re.Match[str]) -> str:
        if len(found[0]) > 1:
            return found[0]
        old = int(found[0])
        return chr(ord(found[0]) - old + (old + chance.randint(1, 9)) % 10)

    return _DIGIT.sub(change, response)


_WORD = re.compile(r"[^\W\d_]\w*(?:[-'’][^\W\d_]\w*)*")
_INVENTED = ("Marlow", "Ostrava", "Kellerman", "Tavira")
_SENTENCE_STARTS = frozenset('.!?:\n"“(*#-•')


def names(_instruction: str, response: str, seed: int) -> str:
    """Names in each other's places, or an invented one in that of a single one (arXiv 2406.13439).

    A name is what begins with capitals inside a sentence. Where a script has no capitals there is none.

    Example:
        >>> names("", "Yes, Rome is older than New York. Rome is in Italy.", 2)
        'Yes, New York is older than Italy. New York is in Rome.'
    """
    spans = _find_names(response)
    known = list(dict.fromkeys(response[span] for span in spans))
    draw(seed, response).shuffle(known)
    if len(known) == 1:
        known.append(next(name for name in _INVENTED if name != known[0]))
    other_name = dict(pairwise([*known, *known[:1]]))
    parts, end = [], 0
    for span in spans:
        parts += [response[end : span.start], other_name[response[span]]]
        end = span.stop
    return "".join([*parts, response[end:]])


def _find_names(text: str) -> list[slice]:
    """Find words in a row that begin with capitals; at the start of a sentence the first only with a known name."""
    runs: list[slice] = []
    for word in _WORD.finditer(text):
        if word[0][0].isupper() and len(word[0]) > 1:
            goes_on = runs and text[runs[-1].stop : word.start()] == " "
            runs.append(slice(runs.pop().start if goes_on else word.start(), word.end()))
    inside = [
        run.start > 1 and text[run.start - 1] == " " and text[run.start - 2] not in _SENTENCE_STARTS for run in runs
    ]
    known = {text[run] for run, is_inside in zip(runs, inside, strict=True) if is_inside}
    names = []
    for run, is_inside in zip(runs, inside, strict=True):
        first, _, rest = text[run].partition(" ")
        if is_inside or text[run] in known:
            names.append(run)
        elif rest:
            names.append(slice(run.start + len(first) + 1, run.stop))
    return names


_VERBS = "is|are|was|were|am|can|could|should|would|will|must|may|might"
_AFTER_VERBS = rf"\b(?:{_VERBS}|ist|sind|kann|können|wird|werden|soll|sollte)\b(?!['’]|\s(?:not|no|never|nicht)\b)"
_BEFORE_VERBS = r"\b(?:está|están|puede|pueden|debe|deben|é|são|pode|è|sono|può|может|могут|будет|будут)\b"
_PUT_IN = re.compile(
    rf"(?P<after>{_AFTER_VERBS})|(?P<before>(?<!\bno )(?<!\bnão )(?<!\bnon )(?<!\bне ){_BEFORE_VERBS})"
    r"|(?<!['’])\b(?P<french>est|sont|peut|peuvent|doit|doivent)\b(?!\spas\b)"
    r"|(?<![不没可但还或只就总])(?P<chinese>可以|应该|能够|是(?!否|不是))|(?P<japanese>です|ます)(?=[。！？\s]|\Z)",
    re.IGNORECASE,
)
_NO = {
    **dict.fromkeys(("é", "são", "pode"), "não"),
    **dict.fromkeys(("è", "sono", "può"), "non"),
    **dict.fromkeys(("может", "могут", "будет", "будут"), "не"),
}
_GERMAN = re.compile(r"ist|sind|kann|können|wird|werden|soll|sollte", re.IGNORECASE)


def _negate(found: re.Match[str]) -> str:
    verb = found[0]
    match found.lastgroup:
        case "after":
            return f"{verb} nicht" if _GERMAN.fullmatch(verb) else f"{verb} not"
        case "before":
            return f"{_NO.get(verb.lower(), 'no')} {verb}"
        case "french":
            return f"n'{verb} pas" if verb[0] in "eE" else f"ne {verb} pas"
        case "chinese":
            return f"不{verb}"
        case _:
            return "ではありません" if verb == "です" else "ません"


def negated(_instruction: str, response: str, _seed: int) -> str:
    """A negation behind every auxiliary that has none (CheckList, arXiv 2005.04118).

    English; the commonest verbs of German, French, Spanish, Portuguese, Italian, Russian, Chinese and Japanese.

    Example:
        >>> negated("", "Rome is old. It was never small, and you can walk.", 0)
        'Rome is not old. It was never small, and you can not walk.'
    """
    return _PUT_IN.sub(_negate, response)


_AFFIRMED = {
    "can't": "can", "cannot": "can", "can not": "can", "won't": "will", "shan't": "shall", "ain't": "is",
    "no longer": "still", "never": "always", "nobody": "everybody", "nothing": "everything", "none": "all",
    "nowhere": "everywhere", "without": "with",
    "kein": "ein", "keine": "eine", "keinen": "einen", "keinem": "einem", "keiner": "einer", "nie": "immer",
    "niemals": "immer", "niemand": "jeder", "nichts": "alles", "nunca": "siempre", "jamais": "toujours",
    "ではありません": "です", "ません": "ます", "没有": "有", "不是": "是", "不能": "能",
    "不会": "会", "不可以": "可以", "不应该": "应该",
}  # fmt: skip
"""Negations, and what is said without them."""
_WORDS = "|".join(re.escape(word).replace("'", "['’]") for word in _AFFIRMED if word.isascii())
_CHARACTERS = "|".join(word for word in _AFFIRMED if not word.isascii())
_TAKE_OUT = re.compile(
    rf"\b(?P<word>{_WORDS})\b|(?P<characters>{_CHARACTERS})"
    rf"|\b(?P<verb>{_VERBS}|do|does|did|has|have|had|need)n['’]t\b|\s(?P<not>not|nicht|pas)\b"
    r"|\b(?P<no>no|não|non|не)\s(?=[^\W\d_])|\b(?P<ne>ne\s|n['’])(?=\w)",
    re.IGNORECASE,
)


def affirmed(_instruction: str, response: str, _seed: int) -> str:
    """Every negation taken out, in the same languages (arXiv 2005.04118).

    Example:
        >>> affirmed("", "It isn't far, you can't miss it, and there is no fee. Do not run.", 0)
        'It is far, you can miss it, and there is fee. Do run.'
    """

    def change(found: re.Match[str]) -> str:
        if found["word"] or found["characters"]:
            said = _AFFIRMED.get(found[0].lower().replace("’", "'"), "")
            return said.capitalize() if found[0][0].isupper() else said
        return found["verb"] or ""

    return _TAKE_OUT.sub(change, response)


def _broken(name: str, function: AttackFunction, carrier: Carrier = Carrier.OWN) -> Attack:
    return Attack(f"broken.{name}", Effect.BROKEN, function, carrier)


BROKEN = (
    _broken("other", other, Carrier.OTHER),
    _broken("nearest", nearest, Carrier.NEAREST),
    *(_broken(f"cut_{percent}", _cut(percent)) for percent in (25, 50, 75)),
    _broken("digits", digits),
    _broken("names", names),
    _broken("negated", negated),
    _broken("affirmed", affirmed),
)
