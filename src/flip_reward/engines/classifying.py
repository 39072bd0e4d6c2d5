"""What trained reward models have in common wherever they run: settings, and which of several numbers counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import Field

from flip_reward.core.conversation import Message
from flip_reward.errors import EngineUnavailableError
from flip_reward.settings import Setting

LABELS_IN_MESSAGE = 8
_NO_NAMES: Mapping[int, str] = MappingProxyType({})


class TrainedApi(StrEnum):
    """The API by which a server gives the numbers of a trained reward model."""

    AUTO = "auto"
    CLASSIFY = "classify"
    """vLLM's `/classify`, which takes a conversation."""
    POOLING = "pooling"
    """vLLM's `/pooling`, likewise."""
    SGLANG = "sglang"
    """SGLang's `/classify`, which takes tokens."""
    SCORE = "score"
    """vLLM's `/score`, which takes a pair of texts."""
    RERANK = "rerank"
    """`/rerank` of vLLM, Jina, Cohere, llama.cpp, SGLang and TEI, and TEI's `/predict`, likewise."""


@dataclass(frozen=True)
class ClassifierOptions:
    """How the head of a trained reward model is read."""

    panel: ClassVar[str] = "Trained reward model"

    label: Annotated[
        str | None,
        Field(
            description="trained: of a model with several labels the one whose probability is the reward, by name or "
            "number (from 0). A model trained for regression gives its number."
        ),
        Setting(metavar="NAME|N"),
    ] = None
    trained_api: Annotated[
        TrainedApi,
        Field(
            description="trained: how a server is asked. auto tries what it has: classify or pooling (vLLM), sglang; "
            "score or rerank for rerankers, which see the conversation as a query and the response as a document."
        ),
    ] = TrainedApi.AUTO
    model_tokenizer: Annotated[
        str | None,
        Field(
            description="trained: the tokenizer whose chat template renders conversations for SGLang, which takes "
            "tokens; by default the model's name on the hub."
        ),
        Setting(metavar="NAME|FOLDER"),
    ] = None


def find_label(label: str | None, count: int, model: str, names: Mapping[int, str] = _NO_NAMES) -> int:
    """Return which of a head's numbers is the reward.

    Args:
        label: What the user chose, by name or number.
        count: How many numbers the head gives.
        model: Names the model in errors.
        names: The labels by their numbers, where they are known.

    Raises:
        EngineUnavailableError: It has several and none was chosen, none is called so, or nothing is to choose.

    Example:
        >>> find_label("SAFE", 2, "guard", {0: "unsafe", 1: "safe"})
        1
    """
    known = [f"{names[number]} ({number})" for number in range(min(count, LABELS_IN_MESSAGE)) if number in names]
    listed = ": " + ", ".join(known + ["..."] * (count > LABELS_IN_MESSAGE)) if known else ""
    if label is None:
        if count == 1:
            return 0
        raise EngineUnavailableError(
            f"{model} gives {count} numbers, and a reward is one{listed}",
            hint=f"choose one with --label NAME|N, N from 0 to {count - 1}, or take a reward model, which has one",
        )
    if count == 1:
        raise EngineUnavailableError(f"{model} gives one number, so there is no label to choose", hint="no --label")
    found = [number for number, name in names.items() if name.casefold() == label.casefold()]
    if not found and label.isdecimal() and int(label) < count:
        return int(label)
    if len(found) != 1:
        hint = f"choose one by its number, from 0 to {count - 1}"
        raise EngineUnavailableError(f"{model} has no label {label!r}{listed}", hint=hint)
    return found[0]


def render_query(messages: Sequence[Message]) -> str:
    r"""Render a conversation as the first text of a pair: one turn as it is, several with who speaks.

    Example:
        >>> render_query([Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Name a fruit.")])
        'user: Hi.\n\nassistant: Hello.\n\nuser: Name a fruit.'
    """
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join([f"{message.role}: {message.content}" for message in messages])
