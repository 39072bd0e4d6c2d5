"""vLLM's score API, `/score` and `/v1/score`, as of its version 0.33: pairs of a query and a document.

The query is the instruction, the document the response.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from flip_reward.errors import ConversationError
from flip_reward.server.contracts.numbers import to_numbers
from flip_reward.server.contracts.rewards import TextPart, make_group
from flip_reward.server.exchange import Context, Contract
from flip_reward.server.problems import ApiError, Problem, RowError
from flip_reward.server.scorer import Result, Row


class TextParts(BaseModel):
    """A text in parts, as vLLM's clients may send one."""

    model_config = ConfigDict(extra="ignore")

    content: list[TextPart]


Text: TypeAlias = str | TextParts
Texts: TypeAlias = Text | list[Text]


class _PairRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(default=None, description="Not used: the server has one model.")


class ScoreRequest(_PairRequest):
    """One query and several documents, or as many queries as documents."""

    queries: Texts = Field(description="The instructions.")
    documents: Texts = Field(description="The responses.")


class ScoreItemsRequest(_PairRequest):
    """The same with the name that vLLM's generative scoring has for documents."""

    queries: Texts
    items: Texts


class ScoreTextRequest(_PairRequest):
    """The same with older names."""

    text_1: Texts
    text_2: Texts


class ScoreDataRequest(_PairRequest):
    """The same with further names that vLLM takes."""

    data_1: Texts
    data_2: Texts


AnyScoreRequest: TypeAlias = ScoreRequest | ScoreItemsRequest | ScoreTextRequest | ScoreDataRequest


class PairUsage(BaseModel):
    """Tokens as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ScoreDatum(BaseModel):
    """The score of one pair."""

    index: int
    object: str = "score"
    score: float | None


class ScoreAnswer(BaseModel):
    """What vLLM answers."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[ScoreDatum]
    usage: PairUsage


def _to_rows(request: AnyScoreRequest, context: Context) -> list[Row]:  # noqa: ARG001 - the shape of a contract
    queries, documents = _sides(request)
    if not queries or not documents:
        raise ApiError(422, Problem.BAD_REQUEST, "there is nothing to score: a query and a document are needed")
    if len(queries) not in (1, len(documents)):
        raise ApiError(
            422, Problem.BAD_REQUEST, f"{len(queries)} queries and {len(documents)} documents make no pairs"
        )
    if len(queries) == 1:  # one group, so that rewards that compare responses can
        row = _to_row(queries[0], documents)
        if isinstance(row, RowError):
            raise ApiError(422, row.problem, row.message)
        return [row]
    return [_to_row(query, [document]) for query, document in zip(queries, documents, strict=True)]


def _to_answer(request: AnyScoreRequest, results: Sequence[Result], context: Context) -> dict[str, object]:
    queries, documents = _sides(request)
    sizes = [len(documents)] if len(queries) == 1 else [1] * len(queries)
    numbers = to_numbers(results, sizes, context.settings.unscored)
    return {
        "id": f"score-{context.request_id}",
        "object": "list",
        "created": int(time.time()),
        "model": context.model,
        "data": [{"index": index, "object": "score", "score": value} for index, value in enumerate(numbers.values)],
        "usage": {
            "prompt_tokens": numbers.prompt_tokens,
            "completion_tokens": numbers.completion_tokens,
            "total_tokens": numbers.prompt_tokens + numbers.completion_tokens,
        },
    }


def _sides(request: AnyScoreRequest) -> tuple[list[Text], list[Text]]:
    match request:
        case ScoreRequest():
            return _listed(request.queries), _listed(request.documents)
        case ScoreItemsRequest():
            return _listed(request.queries), _listed(request.items)
        case ScoreTextRequest():
            return _listed(request.text_1), _listed(request.text_2)
        case ScoreDataRequest():
            return _listed(request.data_1), _listed(request.data_2)


def _listed(texts: Texts) -> list[Text]:
    return texts if isinstance(texts, list) else [texts]


def _to_row(query: Text, documents: Sequence[Text]) -> Row:
    try:
        return make_group(read_text(query), [read_text(document) for document in documents])
    except ConversationError as error:
        return RowError(Problem.BAD_ROW, str(error))


def read_text(text: Text) -> str:
    """Return a text that may have come in parts.

    Raises:
        ConversationError: One of them is no text.
    """
    if isinstance(text, str):
        return text
    parts = [part.text for part in text.content if part.type == "text" and part.text is not None]
    if len(parts) != len(text.content) or not parts:
        raise ConversationError("only texts can be scored, no images and no videos")
    return "".join(parts)


SCORE: Contract[AnyScoreRequest] = Contract(
    TypeAdapter(AnyScoreRequest),
    _to_rows,
    _to_answer,
    (ScoreRequest, ScoreItemsRequest, ScoreTextRequest, ScoreDataRequest),
)
"""The contract of `/score` and `/v1/score`."""
