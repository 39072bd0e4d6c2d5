"""LLaMA-Factory's reward server (`reward_model_type: api`), as its version 0.9 asks one.

It sends each conversation as one text with every special token, and reads nothing but `scores`, not even the status.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from flip_reward.core.chat_template import split_chat
from flip_reward.core.conversation import Group
from flip_reward.errors import ConversationError
from flip_reward.server.contracts.numbers import to_numbers
from flip_reward.server.exchange import Context
from flip_reward.server.problems import Problem, RowError
from flip_reward.server.scorer import Result, Row


class LlamaFactoryRequest(BaseModel):
    """What LLaMA-Factory sends."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(default=None, description="Not used: the server has one model.")
    messages: list[str] = Field(description="Whole conversations with their special tokens.")
    max_length: int | None = Field(default=None, description="Not used.")


class LlamaFactoryAnswer(BaseModel):
    """What LLaMA-Factory's own reward server answers."""

    id: str
    object: str = "score.evaluation"
    model: str
    scores: list[float | None]


def to_rows(request: LlamaFactoryRequest, context: Context) -> list[Row]:
    """Make one row of each text."""
    return [_to_row(text, trust_turns=context.settings.trust_turns) for text in request.messages]


def to_answer(request: LlamaFactoryRequest, results: Sequence[Result], context: Context) -> dict[str, object]:
    """Make the answer."""
    numbers = to_numbers(results, [1] * len(request.messages), context.settings.unscored)
    return {
        "id": context.request_id,
        "object": "score.evaluation",
        "model": context.model,
        "scores": numbers.values,
    }


def _to_row(text: str, *, trust_turns: bool) -> Row:
    try:
        chat = split_chat(text, trust_turns=trust_turns)
        return Group(chat.messages, (chat.response,))
    except ConversationError as error:
        return RowError(Problem.BAD_ROW, str(error))
