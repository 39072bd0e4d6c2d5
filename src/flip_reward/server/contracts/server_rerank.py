"""The rerank API of vLLM 0.33 and Jina, `/rerank`, `/v1/rerank` and `/v2/rerank`: documents by their relevance.

The query is the instruction, a document a response, and its relevance the reward.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from flip_reward.errors import ConversationError
from flip_reward.server.contracts.numbers import to_numbers
from flip_reward.server.contracts.rerank import PairUsage, Text, TextParts, read_text
from flip_reward.server.contracts.rewards import make_group
from flip_reward.server.exchange import Context, Contract
from flip_reward.server.problems import ApiError, Problem
from flip_reward.server.scorer import Result, Row


class JinaDocument(BaseModel):
    """A document as Jina's clients may send one."""

    model_config = ConfigDict(extra="ignore")

    text: str


Document = str | JinaDocument | TextParts


class RerankRequest(BaseModel):
    """One query and the documents to be ordered."""

    model_config = ConfigDict(extra="ignore")

    query: Text = Field(description="The instruction.")
    documents: list[Document] | Document = Field(description="The responses.")
    model: str | None = Field(default=None, description="Not used: the server has one model.")
    top_n: int | None = Field(default=None, ge=0, description="The most results; null and 0 are all.")
    return_documents: bool = Field(default=True, description="Return the texts with the results, as Jina names it.")


class RerankDocument(BaseModel):
    """The text of a result."""

    text: str


class RerankResult(BaseModel):
    """One document with its relevance."""

    index: int = Field(description="Its place in the request.")
    document: RerankDocument | None = Field(default=None, description="Left out without return_documents.")
    relevance_score: float | None


class RerankAnswer(BaseModel):
    """The documents, the most relevant first; where nothing stands for an unscored one, it comes last."""

    id: str
    model: str
    usage: PairUsage
    results: list[RerankResult]


def _to_rows(request: RerankRequest, context: Context) -> list[Row]:  # noqa: ARG001 - the shape of a contract
    documents = _listed(request)
    if not documents:
        raise ApiError(422, Problem.BAD_REQUEST, "there are no documents")
    try:
        return [make_group(read_text(request.query), [_read(document) for document in documents])]
    except ConversationError as error:
        raise ApiError(422, Problem.BAD_ROW, str(error)) from None


def _to_answer(request: RerankRequest, results: Sequence[Result], context: Context) -> dict[str, object]:
    documents = _listed(request)
    numbers = to_numbers(results, [len(documents)], context.settings.unscored)
    values = numbers.values
    order = sorted(range(len(values)), key=lambda index: _sort_key(values[index]))
    shown: list[dict[str, object]] = []
    for index in order[: request.top_n or None]:
        result: dict[str, object] = {"index": index, "relevance_score": values[index]}
        if request.return_documents:
            result["document"] = {"text": _read(documents[index])}
        shown.append(result)
    return {
        "id": f"rerank-{context.request_id}",
        "model": context.model,
        "usage": {
            "prompt_tokens": numbers.prompt_tokens,
            "completion_tokens": numbers.completion_tokens,
            "total_tokens": numbers.prompt_tokens + numbers.completion_tokens,
        },
        "results": shown,
    }


def _sort_key(value: float | None) -> tuple[bool, float]:
    return (value is None, 0.0 if value is None else -value)


def _listed(request: RerankRequest) -> list[Document]:
    return request.documents if isinstance(request.documents, list) else [request.documents]


def _read(document: Document) -> str:
    return document.text if isinstance(document, JinaDocument) else read_text(document)


RERANK = Contract(TypeAdapter(RerankRequest), _to_rows, _to_answer)
"""The contract of `/rerank`, `/v1/rerank` and `/v2/rerank`."""
