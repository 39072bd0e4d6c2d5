"""slime's remote reward model (`--rm-type remote_rm`), as its main branch of November 2026 asks one.

It sends one sample and takes the whole JSON answer for the reward.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from flip_reward.core.chat_template import read_prompt, strip_end_marks
from flip_reward.core.conversation import Group
from flip_reward.errors import ConversationError
from flip_reward.server.contracts.numbers import to_numbers
from flip_reward.server.contracts.rewards import ChatMessage, make_group
from flip_reward.server.exchange import Context
from flip_reward.server.problems import Problem, RowError
from flip_reward.server.scorer import Result, Row


class SlimeRequest(BaseModel):
    """What slime sends."""

    model_config = ConfigDict(extra="ignore")

    prompt: str | list[ChatMessage] = Field(description="As rendered by the chat template, or the messages.")
    response: str
    label: object = Field(default=None, description="Not used.")


def to_rows(request: SlimeRequest) -> list[Row]:
    """Make the row of a sample."""
    response = strip_end_marks(request.response)
    try:
        if isinstance(request.prompt, str):
            rendered = read_prompt(request.prompt)
            return [Group(rendered.messages, (rendered.prefill + response,))]
        return [make_group(request.prompt, [response])]
    except ConversationError as error:
        return [RowError(Problem.BAD_ROW, str(error))]


def to_answer(results: Sequence[Result], context: Context) -> float | None:
    """Make the answer: the reward itself."""
    [value] = to_numbers(results, [1], context.settings.unscored).values
    return value
