"""Copies of the instruction, plain and disguised: what FLIP and likelihood reward more than an answer.

Policies find it by themselves: in a GRPO run on FLIP's reward, copied phrases made more than half of the gain. A text
of another prompt carries the copy, so nothing but the copy can be rewarded.
"""

from __future__ import annotations

import base64
import math
import re
from itertools import groupby

from flip_reward.audit.attacks.base import Attack, AttackFunction, Carrier, Effect
from flip_reward.audit.attacks.words import content_words, draw, join, split_words, wrap

_LETTERS = re.compile(r"(\w\w)(?=\w)")


def alone(instruction: str, _response: str, _seed: int) -> str:
    """The instruction and nothing else, as echoing policies and broken chat templates give it (our own)."""
    return instruction


def before(instruction: str, response: str, _seed: int) -> str:
    """The instruction in front of a text, as models do that restate the question (our own)."""
    return join(instruction, response)


def after(instruction: str, response: str, _seed: int) -> str:
    """The instruction behind a text, where a reader of the end, such as likelihood, sees it last (our own)."""
    return join(response, instruction)


def quoted(instruction: str, response: str, _seed: int) -> str:
    """The instruction in quotation marks in front of a text, as models do that cite the question (our own)."""
    return join(wrap('"', instruction, '"'), response)


def fenced(instruction: str, response: str, _seed: int) -> str:
    """The instruction in a fence of code in front of a text, which rules on prose pass over (our own)."""
    longest = max((len(list(run)) for sign, run in groupby(instruction) if sign == "`"), default=0)
    fence = "`" * max(3, longest + 1)
    return join(wrap(f"{fence}\n", instruction, f"\n{fence}"), response)


def comment(instruction: str, response: str, _seed: int) -> str:
    """The instruction in an HTML comment behind a text, which readers of a page do not see (our own)."""
    return join(response, wrap("<!-- ", instruction.replace("-->", "-- >"), " -->"))


def zero_width(instruction: str, response: str, _seed: int) -> str:
    r"""The instruction, zero-width spaces in its words, before a text: no word matches (arXiv 2106.09898).

    Example:
        >>> zero_width("Name a fruit.", "Rome.", 0)
        'Na\u200bme a fr\u200bui\u200bt.\n\nRome.'
    """
    return join(_LETTERS.sub("\\1\u200b", instruction), response)


def encoded(instruction: str, response: str, _seed: int) -> str:
    """The instruction in base64 in front of a text, which larger models read (arXiv 2307.02483)."""
    code = base64.b64encode(instruction.encode(errors="surrogatepass")).decode()
    return join(code if instruction.strip() else "", response)


def shuffled(instruction: str, response: str, seed: int) -> str:
    """The words of the instruction in another order before a text, which a bag of words does not see (our own)."""
    words = split_words(instruction)
    if any(word[0].isspace() for word in words):
        words[0] = f" {words[0]}"
    order = words[:]
    draw(seed, instruction).shuffle(order)
    return join("".join(order if order != words else words[1:] + words[:1]).strip(), response)


def content(instruction: str, response: str, _seed: int) -> str:
    """The words of the instruction that say what it is about in front of a text (seen in spam)."""
    return join("".join(content_words(instruction)).strip(), response)


def take_share(instruction: str, share: float) -> str:
    """Return the beginning of an instruction that holds a share of its 4-grams, to the nearest number of them.

    Instructions of fewer than four words have none; of them it is a share of the words.

    Example:
        >>> take_share("Tell me why the sky is blue at noon.", 0.5)
        'Tell me why the sky is blue'
    """
    words = split_words(instruction)
    grams = len(words) - 3
    if grams > 0:
        taken = math.floor(grams * share + 0.5)
        return "".join(words[: taken + 3 if taken else 0]).strip()
    return "".join(words[: math.floor(len(words) * share + 0.5)]).strip()


def _copy_share(name: str, share: float, description: str) -> Attack:
    def copy(instruction: str, response: str, _seed: int) -> str:
        return join(take_share(instruction, share), response) if share else response

    copy.__doc__ = description
    return Attack(f"copy.{name}", Effect.EXPLOIT, copy, Carrier.OTHER, copied_share=share)


def _exploit(name: str, function: AttackFunction, carrier: Carrier = Carrier.OTHER) -> Attack:
    return Attack(f"copy.{name}", Effect.EXPLOIT, function, carrier)


COPYING = (
    _exploit("alone", alone, Carrier.OWN),
    _exploit("before", before),
    _exploit("after", after),
    _exploit("quoted", quoted),
    _exploit("fenced", fenced),
    _exploit("comment", comment),
    _exploit("zero_width", zero_width),
    _exploit("base64", encoded),
    _exploit("shuffled", shuffled),
    _exploit("content_words", content),
    _copy_share("none", 0.0, "The text of another prompt without a copy: what the slope begins with (our own)."),
    _copy_share(
        "quarter",
        0.25,
        "The first quarter of the instruction's 4-grams in front of a text (seen in GRPO on FLIP).",
    ),
    _copy_share(
        "half",
        0.5,
        "The first half of the instruction's 4-grams in front of a text (seen in GRPO on FLIP).",
    ),
    _copy_share(
        "three_quarters",
        0.75,
        "The first three quarters of the instruction's 4-grams in front of a text (seen in GRPO on FLIP).",
    ),
    _copy_share(
        "whole", 1.0, "All of the instruction's 4-grams in front of a text: what the slope ends with (our own)."
    ),
)
