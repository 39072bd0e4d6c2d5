r"""What the training code of arXiv 2602.13551 makes of a reply, flaws included; for reproduction.

The code (github.com/yikee/FLIP, `open_instruct/judge_utils.py` and `ground_truth_utils.py`) takes off thinking,
`<answer>` tags and a fence, writes every line break as `\n`, and reads the rest as JSON. So an object over several
lines is none. What is none is scored as a whole: the keys, the reasoning, and the lines glued together. Whatever
raises an exception there earns 0.0. Why the reply ended is not looked at.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_INSTRUCTION_KEYS = (
    "INFERRED INSTRUCTION",
    "inferred_instruction",
    "Inferred Instructcion",  # spelt so
    "inferred instruction",
    "Inferred_Instruction",
)
_REASONING_KEYS = ("REASONING", "Reasoning", "reasoning")
_DELETED = ("assistant", "<think>", "</think>", "<|system|>", "<|assistant|>", "<|text|>")
_STRAY_BACKSLASH = re.compile(r'\\(?=[^"\\/bfnrtu]|\Z)')
_RATING = re.compile(r'"SCORE"\s*:\s*"?([0-9]+(?:\.[0-9]+)?)')


@dataclass(frozen=True, slots=True)
class PublishedReading:
    """The text that is compared with the instruction, empty where the code fails, and the reasoning."""

    instruction: str
    reasoning: str | None = None


def read_as_published(reply: str | None) -> PublishedReading:
    r"""Read an inference.

    Example:
        >>> read_as_published('{"REASONING": "Short.", "INFERRED INSTRUCTION": "Name a fruit."}').instruction
        'Name a fruit.'
        >>> print(read_as_published('{"INFERRED INSTRUCTION":\n"Name a fruit."}').instruction)
        {"INFERRED INSTRUCTION":\n"Name a fruit."}
    """
    if reply is None:
        return PublishedReading("")
    text = _clean(reply)
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return PublishedReading(_delete(text))
    except (ValueError, RecursionError):
        return PublishedReading("")
    if not isinstance(data, Mapping):
        return PublishedReading("")
    found = _first(data, _INSTRUCTION_KEYS)
    instruction = _delete(text) if found is None else found if isinstance(found, str) else ""
    reasoning = _first(data, _REASONING_KEYS)
    return PublishedReading(instruction, reasoning if isinstance(reasoning, str) else None)


def rate_as_published(reply: str | None) -> float:
    """Read a judge's rating and divide it by 10, as the judge type "quality" does: neither clipped nor checked.

    Example:
        >>> rate_as_published('{"REASONING": "Good.", "SCORE": "8"}'), rate_as_published("I would say 8.")
        (0.8, 0.0)
    """
    if reply is None:
        return 0.0
    text = _clean(reply)
    try:
        rating = float(json.loads(text).get("SCORE", 0.0))
    except json.JSONDecodeError:
        found = _RATING.search(text)
        rating = float(found[1]) if found else 0.0
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return 0.0
    return rating / 10 if math.isfinite(rating) else 0.0


def _clean(reply: str) -> str:
    text = _without_thinking(reply).replace("<answer>", "").replace("</answer>", "").strip()
    text = text.removeprefix("```json") if text.startswith("```json") else text.removeprefix("```")
    text = text.removesuffix("```").replace("\r\n", "\n").replace("\n", "\\n")
    return _STRAY_BACKSLASH.sub(r"\\\\", text).strip()


def _without_thinking(text: str) -> str:
    """Take out every section between thinking tags, with the white space after it."""
    kept, position = [], 0
    while (start := text.find("<think>", position)) >= 0 and (end := text.find("</think>", start)) >= 0:
        kept.append(text[position:start])
        position = end + len("</think>")
        while position < len(text) and text[position].isspace():
            position += 1
    return "".join(kept) + text[position:]


def _delete(text: str) -> str:
    for word in _DELETED:
        text = text.replace(word, "")
    return text


def _first(data: Mapping[str, object], keys: tuple[str, ...]) -> object:
    """The first value that counts as true, or else the last key's."""
    return next((value for key in keys if (value := data.get(key))), data.get(keys[-1]))
