"""The samples of one call of TRL as groups: consecutive completions of the same prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from flip_reward.core.conversation import Group, read_content
from flip_reward.errors import OptionError

ChatMessage: TypeAlias = Mapping[str, object]
Text: TypeAlias = str | Sequence[ChatMessage]
"""A prompt or completion as TRL has it: plain text, or chat messages."""

_THOUGHTS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class SampleGroup:
    """Some consecutive samples with the same prompt.

    Attributes:
        start: The place of the first one in the call.
        group: Prompt and responses.
    """

    start: int
    group: Group

    @property
    def places(self) -> range:
        """The places of its samples in the call."""
        return range(self.start, self.start + len(self.group.responses))


def read_groups(
    prompts: Sequence[Text], completions: Sequence[Text], num_generations: int | None = None
) -> list[SampleGroup]:
    """Rebuild the groups of a call.

    TRL repeats each prompt `num_generations` times, one after the other, and gives each process a slice of all
    samples, which may begin or end in the middle of a group. Where the number is known, two groups of the same prompt
    that follow each other are told apart.

    Args:
        prompts: One for each sample.
        completions: As many.
        num_generations: How many samples a whole group has, if known.

    Raises:
        ConversationError: A message cannot be read.
        ValueError: There are not as many prompts as completions.

    Example:
        >>> groups = read_groups(["Name a fruit."] * 2 + ["Name a bird."], ["Apple.", "Pear.", "Owl."])
        >>> [(one.start, one.group.responses) for one in groups]
        [(0, ('Apple.', 'Pear.')), (2, ('Owl.',))]
    """
    if len(prompts) != len(completions):
        raise ValueError(f"there are {len(prompts)} prompts and {len(completions)} completions")
    groups = []
    start = 0
    for end in range(1, len(prompts) + 1):
        whole = num_generations is not None and end - start == num_generations
        if end == len(prompts) or whole or prompts[end] != prompts[start]:
            responses = [read_completion(completion) for completion in completions[start:end]]
            groups.append(SampleGroup(start, Group.of(prompts[start], responses)))
            start = end
    return groups


def check_whole(groups: Sequence[SampleGroup], num_generations: int) -> None:
    """Make sure that every group is whole, for rewards that compare its responses.

    Raises:
        OptionError: One is not.
    """
    for one in groups:
        if len(one.group.responses) != num_generations:
            raise OptionError(
                f"the reward compares the {num_generations} responses to a prompt, but this process has only "
                f"{len(one.group.responses)} of them",
                hint="make per_device_train_batch_size x steps_per_generation (and per_device_eval_batch_size) a "
                "multiple of num_generations, so that no group is split between processes",
            )


def read_completion(completion: Text) -> str:
    """Return a completion as text.

    Where TRL has split off the thinking section and no answer followed it, the section comes back unclosed, so that
    the response counts as one that never left it. Of several messages, those of tools between, the last one of the
    assistant is the response.

    Example:
        >>> read_completion([{"role": "assistant", "content": "Apples."}])
        'Apples.'
        >>> read_completion([{"role": "assistant", "content": "", "reasoning_content": "Fruits..."}])
        '<think>Fruits...'
    """
    if isinstance(completion, str):
        return completion
    own = [message for message in completion if message.get("role") == "assistant"]
    if not own:
        return ""
    content = read_content(own[-1]) or ""
    thoughts = next((text for key in _THOUGHTS if isinstance(text := own[-1].get(key), str) and text), None)
    return content if content.strip() or thoughts is None else f"<think>{thoughts}"
