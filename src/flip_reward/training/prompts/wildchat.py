"""Prompts of allenai/WildChat-1M: the first turns of real conversations with a chatbot."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from flip_reward.core.conversation import Message
from flip_reward.core.tokens import load_normalizer
from flip_reward.data.rows import Input, InvalidRow
from flip_reward.training.prompts.rows import PromptRow

WILDCHAT = "allenai/WildChat-1M:train"


class LeftOutReason(StrEnum):
    """Why a row of WildChat is not taken."""

    UNREADABLE = "unreadable"
    LANGUAGE = "other language"
    TOXIC = "toxic"
    REDACTED = "redacted"
    LENGTH = "too short or too long"
    REPEATED = "repeated"
    NOT_DRAWN = "not drawn"


@dataclass(frozen=True, slots=True)
class WildChatOptions:
    """Which prompts are taken."""

    count: int = 12_000
    language: str = "English"
    """Of the conversation, and of its first turn."""
    min_words: int = 3
    """Shorter prompts are left out: nobody could infer them."""
    max_characters: int = 4_000
    seed: int = 0
    dataset: str = "general-flip"
    """The name of the reward of every row."""


@dataclass(frozen=True, slots=True)
class WildChatPrompts:
    """The prompts in the order of the source, and how many rows were left out and why."""

    rows: Sequence[PromptRow]
    left_out: Counter[LeftOutReason] = field(default_factory=Counter)


def build_wildchat(source: Input, options: WildChatOptions) -> WildChatPrompts:
    """Draw first turns of one language that are not toxic, not redacted, not repeated and of a decent length.

    Only these are in memory (reservoir sampling, Vitter 1985, algorithm R), so a million rows can be streamed.
    """
    generator = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    left_out: Counter[LeftOutReason] = Counter()
    drawn: list[tuple[int, str]] = []
    count = 0
    for text in _take(source, options, left_out):
        count += 1
        if len(drawn) < options.count:
            drawn.append((count, text))
        elif (place := generator.randrange(count)) < options.count:
            drawn[place] = (count, text)
    left_out[LeftOutReason.NOT_DRAWN] += count - len(drawn)
    rows = [PromptRow.of((Message("user", text),), options.dataset) for _, text in sorted(drawn)]
    return WildChatPrompts(rows, +left_out)


def _take(source: Input, options: WildChatOptions, left_out: Counter[LeftOutReason]) -> Iterator[str]:
    seen: set[int] = set()
    for row in source.rows():
        found = LeftOutReason.UNREADABLE if isinstance(row, InvalidRow) else _first_turn(row.values, options)
        if isinstance(found, LeftOutReason):
            left_out[found] += 1
            continue
        key = hash(tuple(load_normalizer("multilingual").tokenize(found)))
        if key in seen:
            left_out[LeftOutReason.REPEATED] += 1
            continue
        seen.add(key)
        yield found


def _first_turn(values: Mapping[str, object], options: WildChatOptions) -> str | LeftOutReason:
    conversation = values.get("conversation")
    first = conversation[0] if isinstance(conversation, list) and conversation else None
    if not isinstance(first, Mapping) or first.get("role") != "user" or not isinstance(first.get("content"), str):
        return LeftOutReason.UNREADABLE
    if any(where.get("language") != options.language for where in (values, first)):
        return LeftOutReason.LANGUAGE
    if values.get("toxic") or first.get("toxic"):
        return LeftOutReason.TOXIC
    if values.get("redacted") or first.get("redacted"):
        return LeftOutReason.REDACTED
    text = str(first["content"]).strip()
    if len(text.split()) < options.min_words or len(text) > options.max_characters:
        return LeftOutReason.LENGTH
    return text
