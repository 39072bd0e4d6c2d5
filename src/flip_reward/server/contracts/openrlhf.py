"""OpenRLHF's remote reward model, as its version 0.11 asks one.

It sends `query`, the prompt and the response as one text with every special token, and beside it `prompts`, the
prompts as rendered by the policy's chat template, and `labels`, which this reward does without. Early versions send
`query` alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from flip_reward.core.chat_template import read_prompt, split_chat, split_query, strip_end_marks
from flip_reward.core.conversation import Group
from flip_reward.errors import ConversationError
from flip_reward.server.contracts.numbers import to_numbers
from flip_reward.server.exchange import Context
from flip_reward.server.problems import Problem, RowError
from flip_reward.server.scorer import Result, Row


class OpenRlhfRequest(BaseModel):
    """What OpenRLHF sends."""

    model_config = ConfigDict(extra="ignore")

    query: list[str] = Field(description="Prompt and response as one text, with special tokens.")
    prompts: list[str] | None = Field(default=None, description="The prompts, as rendered.")
    labels: list[object] | None = Field(default=None, description="Not used.")


class OpenRlhfAnswer(BaseModel):
    """What OpenRLHF wants back."""

    rewards: list[float | None]
    scores: list[float | None] = Field(description="The same; OpenRLHF filters prompts by them.")
    extra_logs: dict[str, list[float]] = Field(
        description="`flip_scored`: 1 for a reward, 0 for what stands for one."
    )


def to_rows(request: OpenRlhfRequest, context: Context) -> list[Row]:
    """Make one row of each query."""
    prompts = request.prompts
    if prompts is not None and len(prompts) != len(request.query):
        error = RowError(Problem.BAD_ROW, f"{len(request.query)} queries, but {len(prompts)} prompts")
        return [error for _ in request.query]
    trust_turns = context.settings.trust_turns
    return [
        _to_row(query, None if prompts is None else prompts[number], trust_turns=trust_turns)
        for number, query in enumerate(request.query)
    ]


def to_answer(request: OpenRlhfRequest, results: Sequence[Result], context: Context) -> dict[str, object]:
    """Make the answer."""
    numbers = to_numbers(results, [1] * len(request.query), context.settings.unscored)
    return {
        "rewards": numbers.values,
        "scores": numbers.values,
        "extra_logs": {"flip_scored": [float(scored) for scored in numbers.scored]},
    }


def _to_row(query: str, prompt: str | None, *, trust_turns: bool) -> Row:
    try:
        if prompt is None:
            chat = split_chat(query, trust_turns=trust_turns)
            return Group(chat.messages, (chat.response,))
        rendered = read_prompt(prompt)
        response = strip_end_marks(split_query(query, prompt))
        return Group(rendered.messages, (rendered.prefill + response,))
    except ConversationError as error:
        return RowError(Problem.BAD_ROW, str(error))
