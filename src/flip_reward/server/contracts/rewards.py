"""Our own contract, `POST /v1/rewards`: groups in; scores with outcomes, inferred instructions and usage out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flip_reward.core.cautions import Caution
from flip_reward.core.conversation import ROLES, Group, Message
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import ConversationError
from flip_reward.scoring.records import SampleLine
from flip_reward.server.exchange import Body, Context, Contract, Question, WholeNumber
from flip_reward.server.problems import Problem, RowError, explain
from flip_reward.server.scorer import Result, Row


class TextPart(BaseModel):
    """A part of a message's content."""

    type: str = Field(
        default="text", description='"text", "input_text" or "output_text"; others are left out', examples=["text"]
    )
    text: str | None = None


class ChatMessage(BaseModel):
    """One turn of a conversation, as in the OpenAI protocol."""

    role: str = Field(description="system, developer, user, assistant or tool", examples=["user"])
    content: str | list[TextPart | str] | None = Field(default=None, examples=["Name three fruits."])
    tool_calls: list[object] | None = None


Prompt = Annotated[
    str | list[ChatMessage],
    Field(
        description="The instruction as text, or the conversation up to the response as messages.",
        examples=["Name three fruits."],
    ),
]


def make_group(prompt: str | list[ChatMessage], responses: Sequence[str], group_id: str = "") -> Group:
    """Make the group of a conversation and its responses."""
    if isinstance(prompt, str):
        if not prompt or prompt.isspace():
            raise ConversationError("the instruction is empty: there is nothing to compare with")
        return Group((Message("user", prompt),), tuple(responses), group_id)
    messages = [
        Message(message.role, message.content)  # type: ignore[arg-type]  # among the roles
        if isinstance(message.content, str) and message.role in ROLES
        else message.model_dump(exclude_unset=True)  # a part without a type is a text if it has one
        for message in prompt
    ]
    return Group.of(messages, responses, id=group_id)


GroupId: TypeAlias = str | WholeNumber | None


class RewardGroup(Body):
    """One conversation and its responses; `instruction`, `messages` and `response` are accepted as in files."""

    id: GroupId = Field(default=None, description="Comes back with the scores.")
    prompt: Prompt = Field(validation_alias=AliasChoices("prompt", "instruction", "messages"))
    responses: list[str] | str = Field(
        validation_alias=AliasChoices("responses", "response"),
        description="The candidate responses, or a single one.",
        examples=[["Apples, pears and plums.", "It rains."]],
    )


class RewardRequest(BaseModel):
    """The groups to score."""

    groups: list[RewardGroup | object] = Field(
        description="Each is scored on its own; a mistake in one fails no other."
    )
    details: bool = Field(
        default=False,
        description="Also return replies, reasoning, samples, likelihoods, parts, attempts and latency.",
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
    copied_share: float | None = Field(description="Which share of the instruction's own words it copies, 0 to 1.")
    cached: bool
    usage: UsageOut
    reasoning: str | None = Field(default=None, description="With details.")
    raw_reply: str | None = Field(default=None, description="With details.")
    attempts: int | None = Field(default=None, description="With details.")
    latency_seconds: float | None = Field(default=None, description="With details.")
    samples: list[dict[str, object]] | None = Field(default=None, description="With details.")
    likelihood: dict[str, float | None] | None = Field(default=None, description="With details.")
    parts: list[dict[str, object]] | None = Field(
        default=None, description="With details: name, value and outcome of what the reward is made of."
    )
    other_reading: dict[str, object] | None = Field(
        default=None, description="With details: what the copy guard read besides, and does not count."
    )


class RowErrorOut(BaseModel):
    """Why a group could not be scored."""

    type: Problem
    message: str


class GroupOut(BaseModel):
    """The result of one group: its scores, or an error."""

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


class RewardQuestion(Question):
    """A `RewardRequest` whose groups are checked one by one, so that a malformed one fails alone."""

    groups: list[object]
    details: bool = False

    def to_rows(self, context: Context) -> list[Row]:  # noqa: ARG002
        """Make one row of each group."""
        return list(map(read_group, self.groups))

    def to_answer(self, results: Sequence[Result], context: Context) -> dict[str, object]:
        """Show every score."""
        details = self.details or context.details
        prompt_tokens = completion_tokens = cached_tokens = 0
        for result in results:
            for score in () if isinstance(result, RowError) else result:
                usage = score.cost.usage
                prompt_tokens += usage.prompt_tokens
                completion_tokens += usage.completion_tokens
                cached_tokens += usage.cached_tokens
        pairs = zip(self.groups, results, strict=True)
        return {
            "id": context.request_id,
            "reward": context.scorer.reward_name,
            "model": context.scorer.model,
            "results": [show_group(read_id(group), result, details=details) for group, result in pairs],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "cached_tokens": cached_tokens,
            },
        }


def read_group(value: object) -> Row:
    """Make the row of what should be a `RewardGroup`."""
    try:
        group = _GROUP.validate_python(value, strict=True)
        responses = (group.responses,) if isinstance(group.responses, str) else group.responses
        return make_group(group.prompt, responses, "" if group.id is None else str(group.id))
    except ValidationError as error:
        return RowError(Problem.BAD_ROW, explain(error))
    except ConversationError as error:
        return refuse(error)


def refuse(error: ConversationError) -> RowError:
    """Say what is wrong with a row, and what to do about it."""
    return RowError(Problem.BAD_ROW, f"{error}; {error.hint}" if error.hint else str(error))


def read_id(value: object) -> str | None:
    """Return the id of what should be a `RewardGroup`, also where the rest of it cannot be read."""
    try:
        group_id = _ID.validate_python(value.get("id")) if isinstance(value, dict) else None
    except ValidationError:
        return None
    return None if group_id is None else str(group_id)


def show_group(group_id: str | None, result: Result, *, details: bool) -> dict[str, object]:
    """Return a `GroupOut`, for orjson."""
    if isinstance(result, RowError):
        error = {"type": result.problem, "message": result.message}
        return {"id": group_id, "scores": None, "error": error}
    return {"id": group_id, "scores": [_show(score, details=details) for score in result], "error": None}


def _show(score: Score, *, details: bool) -> dict[str, object]:
    """Name the fields as in a run's records; orjson writes enumerations and data classes as they are."""
    shown: dict[str, object] = {
        "outcome": score.outcome,
        "reward": score.value,
        "precision": score.precision,
        "recall": score.recall,
        "inferred_instruction": score.inferred_instruction,
        "detail": score.detail,
        "spread": score.spread,
        "cautions": score.cautions,
        "copied_share": score.copied_share,
        "cached": score.cost.cached,
        "usage": score.cost.usage,
    }
    if details:
        shown |= {
            "reasoning": score.reasoning,
            "raw_reply": score.raw_reply,
            "attempts": score.cost.attempts,
            "latency_seconds": round(score.cost.latency_seconds, 6),
            "samples": [SampleLine.of(sample) for sample in score.samples],
            "likelihood": score.likelihood,
            "parts": score.parts,
            "other_reading": score.other_reading,
        }
    return shown


_GROUP = TypeAdapter(RewardGroup)
_ID: TypeAdapter[GroupId] = TypeAdapter(GroupId, config=ConfigDict(strict=True))

REWARDS = Contract(
    "Score groups of responses",
    TypeAdapter(RewardQuestion),
    TypeAdapter(RewardAnswer),
    described=TypeAdapter(RewardRequest),
)
"""The contract of `/v1/rewards`."""
