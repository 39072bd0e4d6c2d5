"""Trainers' prompts and completions, as text or chat messages, become groups; scores go back in their order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from flip_reward.core.chat.template import ChatReader
from flip_reward.core.chat.thinking import find_opening
from flip_reward.core.conversation import Group, Message, read_content
from flip_reward.core.score import Score
from flip_reward.errors import ConversationError

MessageLike: TypeAlias = Message | Mapping[str, object]
TextOrChat: TypeAlias = str | Sequence[MessageLike]
"""A prompt or a completion: plain text, or chat messages. A text prompt may be what a chat template made of them."""

_THOUGHTS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class SampleGroup:
    """Samples of one conversation."""

    group: Group
    places: tuple[int, ...]
    """Where each response of the group stands in the trainer's call."""

    def only(self, places: Collection[int]) -> SampleGroup | None:
        """Return the part of the group that stands at some places; None where it is empty."""
        kept = [index for index, place in enumerate(self.places) if place in places]
        if len(kept) == len(self.places):
            return self
        return SampleGroup(self.group.only(kept), tuple(self.places[index] for index in kept)) if kept else None


def group_samples(
    prompts: Sequence[TextOrChat],
    completions: Sequence[TextOrChat],
    size: int | None = None,
    *,
    opening: str = "",
    reader: ChatReader | None = None,
) -> list[SampleGroup]:
    r"""Put samples of the same conversation into one group, so that rewards can compare them.

    A prompt that a chat template has rendered is taken apart again; what the template began the response with, such
    as "<think>", belongs to the response; `opening` is what it begins responses to messages with. With a `size`, more
    samples of one conversation are several groups.
    """
    reader = reader or ChatReader()
    found: dict[tuple[Message, ...], tuple[list[int], list[str]]] = {}
    earlier: TextOrChat | None = None
    messages: tuple[Message, ...] = ()
    prefill = ""
    for place, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        # An array, as pandas reads Parquet, compares item by item.
        given = prompt.tolist() if hasattr(prompt, "tolist") else prompt
        if given != earlier:  # trainers repeat a prompt for each of its samples
            messages, prefill = _read_conversation(given, opening, reader)
            earlier = given
        places, responses = found.setdefault(messages, ([], []))
        places.append(place)
        response = read_response(completion)
        responses.append(response if _find_thoughts(completion) else prefill + response)
    groups = []
    for messages, (places, responses) in found.items():
        step = size or len(places)
        for start in range(0, len(places), step):
            group = Group(messages, tuple(responses[start : start + step]))
            groups.append(SampleGroup(group, tuple(places[start : start + step])))
    return groups


def in_order(groups: Sequence[SampleGroup], scores: Sequence[Sequence[Score]]) -> list[Score]:
    """Return the scores of groups in the order of the samples."""
    by_place = {
        place: score
        for one, found in zip(groups, scores, strict=True)
        for place, score in zip(one.places, found, strict=True)
    }
    return [by_place[place] for place in range(len(by_place))]


def read_response(completion: TextOrChat) -> str:
    """Return the text of a completion that is scored: a text as it is, of messages the last of the assistant.

    Earlier turns, calls of tools and their results, are steps on the way. Where a trainer has split off the thinking
    section and no answer followed, the section comes back unclosed, so that the response counts as unfinished.
    Without any text the response is blank, which is an outcome of its own.
    """
    if isinstance(completion, str):
        return completion
    message = _find_answering(completion)
    if message is None or isinstance(message, Message):
        return "" if message is None else message.content
    content = read_content(message) if message.get("content") else ""
    thoughts = _find_thoughts(completion)
    if thoughts is not None and not (content or "").strip():
        return f"<think>{thoughts}"
    if content is None:
        raise ConversationError("the assistant's message has no text content")
    return content


def _find_answering(completion: Sequence[MessageLike]) -> MessageLike | None:
    """Return the last message of the assistant."""
    roles = ((one.role if isinstance(one, Message) else one.get("role"), one) for one in reversed(completion))
    return next((message for role, message in roles if role == "assistant"), None)


def _find_thoughts(completion: TextOrChat) -> str | None:
    """Return the thinking that a trainer has split off from the response, as a field or a part of its content."""
    message = None if isinstance(completion, str) else _find_answering(completion)
    if message is None or isinstance(message, Message):
        return None
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    thinking = (part for part in parts if isinstance(part, Mapping) and part.get("type") == "thinking")
    found = (place.get(key) for place in (message, *thinking) for key in _THOUGHTS)
    return next((text for text in found if isinstance(text, str) and text), None)


def _read_conversation(prompt: TextOrChat, opening: str, reader: ChatReader) -> tuple[tuple[Message, ...], str]:
    """Return the messages of a prompt, and what the chat template, or a prefill, began the response with."""
    if isinstance(prompt, str):
        rendered = reader.read_prompt(prompt)
        return rendered.messages, rendered.prefill or find_opening(prompt)
    messages = Group.of(prompt, "").messages
    return messages, find_opening(messages[-1].content) if messages[-1].role == "assistant" else opening
