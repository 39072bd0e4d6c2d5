"""Our own contract, `POST /v1/rewards`: groups in; scores with outcomes, inferred instructions and usage out.

Conversations as clients send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flip_reward.core.cautions import Caution
from flip_reward.core.conversation import ROLES, Group, Message
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import ConversationError
from flip_reward.scoring.records import SampleLine
from flip_reward.server.exchange import Context, Contract
from flip_reward.server.problems import Problem, RowError, explain
from flip_reward.server.scorer import Result, Row


class TextPart(BaseModel):
    """A part of a message's content."""

    model_config = ConfigDict(extra="ignore")

    type: str = Field(description='"text"; other kinds are refused', examples=["text"])
    text: str | None = None


class ChatMessage(BaseModel):
    """One turn of a conversation, as in the OpenAI protocol."""

    model_config = ConfigDict(extra="ignore")

    role: str = Field(description="system, developer, user, assistant or tool", examples=["user"])
    content: str | list[TextPart] | None = Field(default=None, examples=["Name three fruits."])
    tool_calls: list[object] | None = None


Prompt = Annotated[
    str | list[ChatMessage],
    Field(
        description="The instruction as text, or the conversation up to the response as messages.",
        examples=["Name three fruits."],
    ),
]


def make_group(prompt: str | list[ChatMessage], responses: list[str], group_id: str = "") -> Group:
    """Make the group of a conversation and its responses.

    Raises:
        ConversationError: A message has an unknown role or no text, or there is nothing to compare with.
    """
    if isinstance(prompt, str):
        if not prompt or prompt.isspace():
            raise ConversationError("the instruction is empty: there is nothing to compare with")
        return Group.of(prompt, responses, id=group_id)
    messages = [
        Message(message.role, message.content)  # type: ignore[arg-type]  # among the roles, as was just looked up
        if isinstance(message.content, str) and message.role in ROLES
        else message.model_dump()
        for message in prompt
    ]
    return Group.of(messages, responses, id=group_id)


class RewardGroup(BaseModel):
    """One conversation and its responses; `instruction`, `messages` and `response` are taken as in files."""

    model_config = ConfigDict(extra="ignore")

    id: str | int | None = Field(default=None, description="Comes back with the scores.")
    prompt: Prompt = Field(validation_alias=AliasChoices("prompt", "instruction", "messages"))
    responses: list[str] | str = Field(
        validation_alias=AliasChoices("responses", "response"),
        description="The candidate responses, or a single one.",
        examples=[["Apples, pears and plums.", "It rains."]],
    )


class RewardRequest(BaseModel):
    """What is to be scored."""

    model_config = ConfigDict(extra="ignore")

    groups: list[RewardGroup] = Field(description="Each is scored on its own; what is wrong with one fails no other.")
    details: bool = Field(
        default=False, description="Also return replies, reasoning, samples, likelihoods, attempts and latency."
    )


class UsageOut(BaseModel):
    """Tokens as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class ScoreOut(BaseModel):
    """What one response earned, or why it could not be scored; the names are those of a run's records."""

    outcome: Outcome
    reward: float | None = Field(description="Null exactly when the outcome is not scored.")
    precision: float | None
    recall: float | None
    inferred_instruction: str | None
    detail: str | None
    spread: float | None
    cautions: list[Caution] = Field(description="Why the reward means little, where the model's limits are known.")
    cached: bool
    usage: UsageOut
    reasoning: str | None = Field(default=None, description="With details.")
    raw_reply: str | None = Field(default=None, description="With details.")
    attempts: int | None = Field(default=None, description="With details.")
    latency_seconds: float | None = Field(default=None, description="With details.")
    samples: list[dict[str, object]] | None = Field(default=None, description="With details.")
    likelihood: dict[str, float | None] | None = Field(default=None, description="With details.")


class RowErrorOut(BaseModel):
    """Why a group could not be scored."""

    type: Problem
    message: str


class GroupOut(BaseModel):
    """What became of one group: its scores, or an error."""

    id: str | None
    scores: list[ScoreOut] | None = Field(description="One for each response, in order; null with an error.")
    error: RowErrorOut | None


class RewardAnswer(BaseModel):
    """The results, in the order of the groups."""

    id: str = Field(description="The request's id.")
    reward: str = Field(description="The reward's name.")
    model: str
    results: list[GroupOut]
    usage: UsageOut


class _Groups(BaseModel):
    """A request whose groups are checked one by one, so that a malformed one fails alone."""

    groups: list[object]
    details: bool = False


_GROUP = TypeAdapter(RewardGroup)


def _to_rows(request: _Groups, context: Context) -> list[Row]:  # noqa: ARG001 - the shape of a contract
    return [_to_row(group) for group in request.groups]


def _to_row(value: object) -> Row:
    try:
        group = _GROUP.validate_python(value, strict=True)
    except ValidationError as error:
        return RowError(Problem.BAD_ROW, explain(error))
    responses = [group.responses] if isinstance(group.responses, str) else group.responses
    try:
        return make_group(group.prompt, responses, "" if group.id is None else str(group.id))
    except ConversationError as error:
        return RowError(Problem.BAD_ROW, str(error))


def _to_answer(request: _Groups, results: Sequence[Result], context: Context) -> dict[str, object]:
    shown = [
        _show_group(value, result, details=request.details)
        for value, result in zip(request.groups, results, strict=True)
    ]
    scores = [score for result in results if not isinstance(result, RowError) for score in result]
    return {
        "id": context.request_id,
        "reward": context.scorer.reward_name,
        "model": context.model,
        "results": shown,
        "usage": {
            "prompt_tokens": sum(score.cost.usage.prompt_tokens for score in scores),
            "completion_tokens": sum(score.cost.usage.completion_tokens for score in scores),
            "cached_tokens": sum(score.cost.usage.cached_tokens for score in scores),
        },
    }


def _show_group(value: object, result: Result, *, details: bool) -> dict[str, object]:
    group_id = value.get("id") if isinstance(value, dict) else None
    shown_id = str(group_id) if isinstance(group_id, str | int) else None
    if isinstance(result, RowError):
        error = {"type": result.problem.value, "message": result.message}
        return {"id": shown_id, "scores": None, "error": error}
    show = _show_in_detail if details else _show
    return {"id": shown_id, "scores": [show(score) for score in result], "error": None}


def _show(score: Score) -> dict[str, object]:
    return {
        "outcome": score.outcome.value,
        "reward": score.value,
        "precision": score.precision,
        "recall": score.recall,
        "inferred_instruction": score.inferred_instruction,
        "detail": score.detail,
        "spread": score.spread,
        "cautions": score.cautions,
        "cached": score.cost.cached,
        "usage": score.cost.usage,
    }


def _show_in_detail(score: Score) -> dict[str, object]:
    return {
        **_show(score),
        "reasoning": score.reasoning,
        "raw_reply": score.raw_reply,
        "attempts": score.cost.attempts,
        "latency_seconds": round(score.cost.latency_seconds, 6),
        "samples": [SampleLine.of(sample) for sample in score.samples],
        "likelihood": score.likelihood,
    }


REWARDS = Contract(TypeAdapter(_Groups), _to_rows, _to_answer)
"""The contract of `/v1/rewards`."""
