"""What rewards have in common as settings: what is read of a response, and how a language model is asked."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from flip_reward.core.chat.template import ChatReader
from flip_reward.core.copying import CAUTIOUS_SHARE
from flip_reward.core.replies.parse import ReplyPolicy
from flip_reward.core.response import Target, visible_answer
from flip_reward.core.score import Outcome
from flip_reward.engines.base import Sampling
from flip_reward.errors import OptionError
from flip_reward.settings import Setting, flatten

Recorded = str | int | float | bool | None
"""What a manifest holds of a setting."""

_Options = TypeVar("_Options")

Settings = Mapping[str, Recorded]
"""What a reward's scores depend on, flat, so that two runs can be compared line by line."""


def read_options(given: _Options | None, kind: type[_Options]) -> _Options:
    """Return the options that a reward is made with, or their defaults; an OptionError where they are something else.

    Example:
        >>> read_options("direct", ResponseOptions)
        Traceback (most recent call last):
        flip_reward.errors.OptionError: ResponseOptions are wanted, and not 'direct'
    """
    options: object = kind() if given is None else given
    if not isinstance(options, kind):
        raise OptionError(f"{kind.__name__} are wanted, and not {reprlib.repr(options)}")
    return options


def _read_marks(value: object) -> object:
    """Read marks as a variable holds them: a JSON list, or words."""
    if not isinstance(value, str):
        return value
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        read = None
    return read if isinstance(read, list) else value.split()


def _check_marks(marks: tuple[str, ...]) -> tuple[str, ...]:
    if len(marks) % 2 or not all(mark.strip() for mark in marks):
        raise ValueError("every opening mark needs a closing one, such as <plan> </plan>")
    return marks


@dataclass(frozen=True)
class ResponseOptions:
    """What is read of a response: the answer without the policy's thinking.

    Example:
        >>> ResponseOptions(thinking_marks=("<plan>", "</plan>")).visible_answer("<plan>Fruits.</plan>Apples.")
        'Apples.'
    """

    panel: ClassVar[str] = "Responses"

    thinking_marks: Annotated[
        tuple[str, ...],
        BeforeValidator(_read_marks),
        AfterValidator(_check_marks),
        Field(
            description="What opens and closes the thinking of the policy, where its marks are not known already. "
            "Several pairs are given one after the other."
        ),
        Setting(metavar="START END"),
    ] = ()
    thinking_opened: Annotated[
        bool,
        Field(
            description="The policy's chat template opens the thinking: without a closing mark there is no answer."
        ),
    ] = False

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Read the options back from what is recorded of a reward; of a formula, from its parts."""
        names = {field.name for field in fields(cls)}
        found = {key.rpartition(".")[2]: value for key, value in settings.items()}
        return TypeAdapter(cls).validate_python({name: found[name] for name in names & found.keys()})

    def visible_answer(self, response: str) -> str | Outcome:
        """Return the part of a response that a user would see, or why there is none."""
        marks = self.thinking_marks
        pairs = tuple(zip(marks[::2], marks[1::2], strict=True)) if marks else ()
        return visible_answer(response, marks=pairs, opened=self.thinking_opened)


TargetSetting = Annotated[Target, Field(description="What is inferred: last-user, system or conversation.")]
ReplyPolicySetting = Annotated[
    ReplyPolicy,
    Field(
        description="A reply without a verdict: 'strict' leaves it unscored. 'as_published' (flip, pointwise; for "
        "reproduction) gives every reply what the paper's training code gives it, and failures 0."
    ),
]


@dataclass(frozen=True)
class PromptOptions:
    """What a language model is asked with."""

    panel: ClassVar[str] = "Inference"

    template: Annotated[
        str | None,
        Field(
            description="The prompt: reasoned, direct, contextual, compact, ...; by default what suits the target "
            "and the model."
        ),
        Setting(short="-t"),
    ] = None
    template_dir: Annotated[
        Path | None,
        Field(description="A folder with templates of your own, such as FLIP_SYSTEM.prompt and FLIP_USER.prompt."),
    ] = None
    response: ResponseOptions = ResponseOptions()


@dataclass(frozen=True)
class ReplyOptions(PromptOptions):
    """How replies are asked for, by rewards that read them."""

    structured: Annotated[bool, Field(description="Constrain replies to the JSON schema, where the engine can.")] = (
        False
    )
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class CopyGuardOptions:
    """What a reward that infers makes of responses that copy their instruction."""

    panel: ClassVar[str] = "Inference"

    copy_guard: Annotated[
        bool,
        Field(
            description="flip, backward-likelihood: where a response copies its instruction, score it without "
            "what it copies too; the lower value counts. Trainings have it on."
        ),
    ] = False
    copy_guard_share: Annotated[
        float,
        Field(
            gt=0, le=1, description="With --copy-guard: the share of the instruction's own words from which it acts."
        ),
    ] = CAUTIOUS_SHARE

    def check_guard(self) -> None:
        """Refuse a share without the guard, as it would have no effect."""
        if self.copy_guard_share != CAUTIOUS_SHARE and not self.copy_guard:
            raise OptionError("copy_guard_share has no effect without copy_guard", hint="add --copy-guard")

    @property
    def recorded_guard(self) -> dict[str, Recorded]:
        """What is recorded of it: nothing where it is off, so that earlier runs can be resumed."""
        return {"copy_guard": True, "copy_guard_share": self.copy_guard_share} if self.copy_guard else {}


@dataclass(frozen=True)
class PolicyOptions:
    """What is known of the policy whose texts a trainer sends."""

    panel: ClassVar[str] = "Policy"

    policy_tokenizer: Annotated[
        str | None,
        Field(
            description="The policy's tokenizer. Where a trainer sends texts with the marks of a chat template, they "
            "are learnt from its template. Without it those of common models are known."
        ),
        Setting(metavar="NAME|FOLDER"),
    ] = None

    def load_reader(self) -> ChatReader:
        """Load what takes rendered prompts apart.

        Raises:
            OptionError: There is no such tokenizer, or its chat template cannot be learnt.
            MissingDependencyError: transformers is not installed.
        """
        if self.policy_tokenizer is None:
            return ChatReader()
        from flip_reward.engines.huggingface.chat_marks import load_chat_reader

        return load_chat_reader(self.policy_tokenizer)


def find_parts(settings: Settings) -> list[str]:
    """Return the names of the rewards that a reward with these settings is made of.

    Example:
        >>> find_parts({"reward": "min(flip, copy)", "flip.reward": "flip", "flip.samples": 4, "copy.reward": "copy"})
        ['flip', 'copy']
    """
    return [name.removesuffix(_REWARD_OF_PART) for name in settings if name.endswith(_REWARD_OF_PART)]


_REWARD_OF_PART = ".reward"


def find_setting(settings: Settings, name: str) -> dict[str, Recorded]:
    """Return what a reward, and each reward that it is made of, has for a setting, by its full name.

    Example:
        >>> find_setting({"reward": "flip/2", "flip.reward": "flip", "flip.similarity": "f1-idf"}, "similarity")
        {'flip.similarity': 'f1-idf'}
    """
    return {full: value for full, value in settings.items() if full == name or full.endswith(f".{name}")}


def record_options(
    options: PromptOptions | ResponseOptions, besides: Collection[str], always: Collection[str]
) -> dict[str, Recorded]:
    """Return options as a manifest records them, without those that are recorded in another form (`besides`).

    Options at their defaults are not recorded, so that earlier runs can be resumed, except those in `always`.
    """
    defaults = flatten(type(options)())
    return {
        name: _to_record(value)
        for name, value in flatten(options).items()
        if name in always or (name not in besides and value != defaults[name])
    }


def _to_record(value: Any) -> Recorded:  # noqa: ANN401 - a setting's
    if isinstance(value, tuple):
        return json.dumps(value, ensure_ascii=False)
    recorded: Recorded = value.value if isinstance(value, Enum) else value
    return recorded
