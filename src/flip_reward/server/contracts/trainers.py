"""`POST /get_reward`: OpenRLHF, slime and LLaMA-Factory, each in a shape of its own."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field, TypeAdapter

from flip_reward.core.chat.template import ChatReader, split_query
from flip_reward.core.chat.thinking import find_opening
from flip_reward.core.conversation import Group
from flip_reward.errors import ConversationError
from flip_reward.server.contracts.numbers import to_numbers
from flip_reward.server.contracts.rewards import ChatMessage, make_group, refuse
from flip_reward.server.exchange import Context, Contract, Question
from flip_reward.server.problems import Problem, RowError
from flip_reward.server.scorer import Result, Row


class OpenRlhfRequest(Question):
    """A remote reward model's request of OpenRLHF 0.11; early versions send `query` alone."""

    query: list[str] = Field(description="Prompt and response as one text, with special tokens.")
    prompts: list[str] | None = Field(default=None, description="The prompts, as the chat template renders them.")
    labels: object = Field(default=None, description="Not used.")

    def to_rows(self, context: Context) -> list[Row]:
        """Make one row of each query."""
        if self.prompts is None:
            return [_split(query, context) for query in self.query]
        if len(self.prompts) != len(self.query):
            error = RowError(Problem.BAD_ROW, f"{len(self.query)} queries, but {len(self.prompts)} prompts")
            return [error for _ in self.query]
        pairs = zip(self.prompts, self.query, strict=True)
        return [_split_after(prompt, query, context.reader) for prompt, query in pairs]

    def to_answer(self, results: Sequence[Result], context: Context) -> dict[str, object]:
        """Return an `OpenRlhfAnswer`."""
        numbers = to_numbers(results, [1] * len(self.query), context.settings.unscored)
        flags = [float(scored) for scored in numbers.scored]
        return {"rewards": numbers.values, "scores": numbers.values, "extra_logs": {"flip_scored": flags}}


class OpenRlhfAnswer(BaseModel):
    """The rewards as OpenRLHF reads them."""

    rewards: list[float | None]
    scores: list[float | None] = Field(description="The same; OpenRLHF filters prompts by them.")
    extra_logs: dict[str, list[float]] = Field(
        description="`flip_scored`: 1 for a reward, 0 for what stands for one."
    )


class SlimeRequest(Question):
    """One sample of slime (`--rm-type remote_rm`), as of November 2026."""

    prompt: str | list[ChatMessage] = Field(description="As the chat template renders it, or the messages.")
    response: str
    label: object = Field(default=None, description="Not used.")

    def to_rows(self, context: Context) -> list[Row]:
        """Make the row of the sample."""
        response = context.reader.strip_end_marks(self.response)
        try:
            if isinstance(self.prompt, str):
                return [_after(self.prompt, response, context.reader)]
            return [make_group(self.prompt, [response])]
        except ConversationError as error:
            return [refuse(error)]

    def to_answer(self, results: Sequence[Result], context: Context) -> float | None:
        """Return the reward itself: slime takes the whole answer for it."""
        return to_numbers(results, [1], context.settings.unscored).values[0]


class LlamaFactoryRequest(Question):
    """A request to LLaMA-Factory 0.9's reward server (`reward_model_type: api`)."""

    model: object = Field(default=None, description="Not used: the server has one model.")
    messages: list[str] = Field(description="Whole conversations with their special tokens.")
    max_length: object = Field(default=None, description="Not used.")

    def to_rows(self, context: Context) -> list[Row]:
        """Make one row of each text."""
        return [_split(text, context) for text in self.messages]

    def to_answer(self, results: Sequence[Result], context: Context) -> dict[str, object]:
        """Return a `LlamaFactoryAnswer`."""
        numbers = to_numbers(results, [1] * len(self.messages), context.settings.unscored)
        return {
            "id": context.request_id,
            "object": "score.evaluation",
            "model": context.scorer.model,
            "scores": numbers.values,
        }


class LlamaFactoryAnswer(BaseModel):
    """The answer of LLaMA-Factory's own reward server; its client reads only `scores`, not even the status."""

    id: str
    object: str = "score.evaluation"
    model: str
    scores: list[float | None]


def _split(text: str, context: Context) -> Row:
    """Make the row of a whole conversation in one text."""
    try:
        chat = context.reader.split_chat(text, trust_turns=context.settings.trust_turns)
        return Group(chat.messages, (chat.response,))
    except ConversationError as error:
        return refuse(error)


def _split_after(prompt: str, query: str, reader: ChatReader) -> Row:
    """Make the row of a rendered prompt and the text that begins with it."""
    try:
        return _after(prompt, reader.strip_end_marks(split_query(query, prompt)), reader)
    except ConversationError as error:
        return refuse(error)


def _after(prompt: str, response: str, reader: ChatReader) -> Group:
    rendered = reader.read_prompt(prompt)
    return Group(rendered.messages, ((rendered.prefill or find_opening(prompt)) + response,))


GET_REWARD = Contract(
    "Score what OpenRLHF, slime or LLaMA-Factory sends",
    TypeAdapter(OpenRlhfRequest | SlimeRequest | LlamaFactoryRequest),
    TypeAdapter(OpenRlhfAnswer | LlamaFactoryAnswer | float | None),
    (OpenRlhfRequest, SlimeRequest, LlamaFactoryRequest),
)
"""The contract of `/get_reward`: the fields tell which trainer asks."""
