"""What trainers hold, prompts and completions as text or chat messages, becomes groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from flip_reward.core.chat_template import read_prompt
from flip_reward.core.conversation import Group, Message, read_content
from flip_reward.core.score import Score
from flip_reward.errors import ConversationError

ChatMessage: TypeAlias = Message | Mapping[str, object]
Prompt: TypeAlias = str | Sequence[ChatMessage]
Completion: TypeAlias = str | Sequence[ChatMessage]


def read_response(completion: Completion) -> str:
    """Return the text of a completion that is scored: a text as it is, of messages the last of the assistant.

    Earlier turns of the completion (calls of tools, their results) are steps on the way. Without any assistant
    message the response is empty, which has an outcome of its own.

    Raises:
        ConversationError: The message holds something else than text.

    Example:
        >>> read_response([{"role": "assistant", "content": "Apples, pears and plums."}])
        'Apples, pears and plums.'
    """
    if isinstance(completion, str):
        return completion
    for message in reversed(completion):
        if isinstance(message, Message):
            if message.role == "assistant":
                return message.content
        elif message.get("role") == "assistant":
            text = read_content(message)
            if text is None:
                raise ConversationError("the assistant's message has no text content")
            return text
    return ""


def read_sample(prompt: Prompt, completion: Completion) -> Group:
    r"""Return one sample as a group.

    A prompt that is one text may be what a chat template made of the conversation; it is taken apart again, and what
    the template began the response with ("<think>") belongs to the response.

    Args:
        prompt: The instruction, the conversation as messages, or the conversation as a chat template renders it.
        completion: What the policy wrote.

    Raises:
        ConversationError: A message lacks a role or text, or there is none.

    Example:
        >>> read_sample("<|im_start|>user\nName a fruit.<|im_end|>\n<|im_start|>assistant\n", "Apple.")
        Group(messages=(Message(role='user', content='Name a fruit.'),), responses=('Apple.',), id='')
    """
    response = read_response(completion)
    if not isinstance(prompt, str):
        return Group.of(prompt, response)
    rendered = read_prompt(prompt)
    return Group(rendered.messages, (rendered.prefill + response,))


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples of a training step as groups, and the way back to the trainer's order.

    Attributes:
        groups: One for each different conversation, in the order of their first samples.
        places: For each sample, which group it is in, and which of the group's responses it is.

    Example:
        >>> batch = Batch.of(["Name a fruit.", "Name a bird.", "Name a fruit."], ["Apple.", "Owl.", "Pear."])
        >>> [group.responses for group in batch.groups]
        [('Apple.', 'Pear.'), ('Owl.',)]
        >>> batch.places
        ((0, 0), (1, 0), (0, 1))
    """

    groups: tuple[Group, ...]
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, prompts: Iterable[Prompt], completions: Iterable[Completion]) -> Self:
        """Put samples of the same conversation into one group, so that rewards can compare them.

        Args:
            prompts: For each sample the instruction, or the conversation up to the response (see `read_sample`).
            completions: For each sample what the policy wrote.

        Raises:
            ConversationError: A message lacks a role or text.
            ValueError: There are not as many prompts as completions.
        """
        responses: dict[tuple[Message, ...], list[str]] = {}
        numbers: dict[tuple[Message, ...], int] = {}
        places: list[tuple[int, int]] = []
        for prompt, completion in zip(prompts, completions, strict=True):
            group = read_sample(prompt, completion)
            number = numbers.setdefault(group.messages, len(numbers))
            members = responses.setdefault(group.messages, [])
            places.append((number, len(members)))
            members.extend(group.responses)
        return cls(tuple(Group(messages, tuple(texts)) for messages, texts in responses.items()), tuple(places))

    def in_order(self, scores: Sequence[Sequence[Score]]) -> list[Score]:
        """Return the scores of the groups in the order of the samples."""
        return [scores[group][response] for group, response in self.places]
