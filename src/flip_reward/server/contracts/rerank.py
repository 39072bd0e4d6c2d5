"""vLLM's score API, and the rerank API of vLLM, Jina and TEI: the query is the instruction, a document a response."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, TypeAlias, TypeVar

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter

from flip_reward.core.conversation import read_content
from flip_reward.core.score import Outcome
from flip_reward.errors import ConversationError
from flip_reward.server.contracts.numbers import Numbers, to_numbers
from flip_reward.server.contracts.rewards import TextPart, make_group
from flip_reward.server.exchange import Context, Contract, Count, Question
from flip_reward.server.problems import ApiError, Problem, RowError
from flip_reward.server.scorer import Result, Row


class TextParts(BaseModel):
    """A text in parts, as vLLM's clients may send one."""

    content: list[TextPart] = Field(
        description="At least one of them is a text.",
        json_schema_extra={
            "contains": {
                "properties": {"type": {"enum": ["text", "input_text", "output_text"]}, "text": {"type": "string"}},
                "required": ["text"],
            }
        },
    )


class JinaDocument(BaseModel):
    """A document as Jina's clients may send one."""

    text: str


Text: TypeAlias = str | TextParts
Texts: TypeAlias = Text | Annotated[list[Text], Field(min_length=1)]
Document: TypeAlias = str | JinaDocument | TextParts
T = TypeVar("T", Text, Document)


class PairUsage(BaseModel):
    """Tokens as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ScoreRequest(Question):
    """One query and several documents, or as many queries as documents; vLLM 0.33 has several names for them."""

    model: object = Field(default=None, description="Not used: the server has one model.")
    queries: Texts = Field(
        validation_alias=AliasChoices("queries", "text_1", "data_1"),
        description="The instructions; `text_1` and `data_1` are the same.",
    )
    documents: Texts = Field(
        validation_alias=AliasChoices("documents", "items", "text_2", "data_2"),
        description="The responses; `items`, `text_2` and `data_2` are the same.",
    )

    def to_rows(self, context: Context) -> list[Row]:  # noqa: ARG002
        """Make one row of a single query and its documents, so that rewards can compare them; else one a pair."""
        queries, documents = _listed(self.queries), _listed(self.documents)
        if len(queries) == 1:
            return [_group(queries[0], documents)]
        if len(queries) != len(documents):
            message = f"{len(queries)} queries and {len(documents)} documents make no pairs"
            raise ApiError(422, Problem.BAD_REQUEST, message)
        return [_pair(query, document) for query, document in zip(queries, documents, strict=True)]

    def to_answer(self, results: Sequence[Result], context: Context) -> dict[str, object]:
        """Return a `ScoreAnswer`."""
        queries, documents = _listed(self.queries), _listed(self.documents)
        sizes = [len(documents)] if len(queries) == 1 else [1] * len(queries)
        numbers = to_numbers(results, sizes, context.settings.unscored)
        return {
            "id": f"score-{context.request_id}",
            "object": "list",
            "created": int(time.time()),
            "model": context.scorer.model,
            "data": [
                {"index": index, "object": "score", "score": value} for index, value in enumerate(numbers.values)
            ],
            "usage": numbers.usage,
        }


class ScoreDatum(BaseModel):
    """The score of one pair."""

    index: int
    object: str = "score"
    score: float | None


class ScoreAnswer(BaseModel):
    """The answer of vLLM's score API."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[ScoreDatum]
    usage: PairUsage


class RerankRequest(Question):
    """One query and the documents to be ordered."""

    query: Text = Field(description="The instruction.")
    documents: Annotated[list[Document], Field(min_length=1)] | Document = Field(description="The responses.")
    model: object = Field(default=None, description="Not used: the server has one model.")
    top_n: Count | None = Field(default=None, description="The most results; null and 0 are all.")
    return_documents: bool | None = Field(
        default=True, description="Return the texts with the results, as Jina names it; null is true."
    )

    def to_rows(self, context: Context) -> list[Row]:  # noqa: ARG002
        """Make one row of the query and its documents."""
        return [_group(self.query, _listed(self.documents))]

    def to_answer(self, results: Sequence[Result], context: Context) -> dict[str, object]:
        """Return a `RerankAnswer`."""
        documents = _listed(self.documents)
        numbers = to_numbers(results, [len(documents)], context.settings.unscored)
        shown: list[dict[str, object]] = []
        for index, value in _rank(numbers, self.top_n):
            result: dict[str, object] = {"index": index, "relevance_score": value}
            if self.return_documents is not False:
                result["document"] = {"text": _read(documents[index])}
            shown.append(result)
        answer: dict[str, object] = {
            "id": f"rerank-{context.request_id}",
            "model": context.scorer.model,
            "usage": numbers.usage,
            "results": shown,
        }
        if not all(numbers.scored):
            answer["unscored"] = _name_unscored(results, numbers)
        return answer


class RerankDocument(BaseModel):
    """The text of a result."""

    text: str


class RerankResult(BaseModel):
    """One document with its relevance."""

    index: int = Field(description="Its place in the request.")
    document: RerankDocument | None = Field(default=None, description="Left out without return_documents.")
    relevance_score: float


class UnscoredDocument(BaseModel):
    """A document that could not be scored."""

    index: int = Field(description="Its place in the request.")
    outcome: Outcome | Problem = Field(description="Why; a problem where all of them failed together.")


class RerankAnswer(BaseModel):
    """The documents that have a relevance, the most relevant first: clients lose the whole answer over a null."""

    id: str
    model: str
    usage: PairUsage
    results: list[RerankResult]
    unscored: list[UnscoredDocument] = Field(
        default=[],
        description="The documents without a score. They are not in the results, or there with the server's "
        "--unscored-value. Left out where there are none.",
    )


class TeiRerankRequest(Question):
    """A request to Hugging Face's TEI; its fields about truncation and raw scores have no effect."""

    query: Text = Field(description="The instruction.")
    texts: list[Document] = Field(min_length=1, description="The responses.")
    top_n: Count | None = Field(default=None, description="As LiteLLM sends it: the most results.")
    return_text: bool | None = Field(default=False, description="Return the texts with the results.")

    def to_rows(self, context: Context) -> list[Row]:  # noqa: ARG002
        """Make one row of the query and its texts."""
        return [_group(self.query, self.texts)]

    def to_answer(self, results: Sequence[Result], context: Context) -> list[dict[str, object]]:
        """Return a list of `TeiRank`, which has no place for a text without a score."""
        numbers = to_numbers(results, [len(self.texts)], context.settings.unscored)
        ranks: list[dict[str, object]] = []
        for index, value in _rank(numbers, self.top_n):
            rank: dict[str, object] = {"index": index, "score": value}
            if self.return_text:
                rank["text"] = _read(self.texts[index])
            ranks.append(rank)
        return ranks


class TeiRank(BaseModel):
    """One text with its score; the best comes first."""

    index: int = Field(description="Its place in the request.")
    score: float
    text: str | None = Field(default=None, description="Left out without return_text.")


def _listed(texts: list[T] | T) -> list[T]:
    return texts if isinstance(texts, list) else [texts]


def _group(query: Text, documents: Sequence[Document]) -> Row:
    """Make the only row of a request; a mistake in it fails the request."""
    try:
        return make_group(_read(query), [_read(document) for document in documents])
    except ConversationError as error:
        raise ApiError(422, Problem.BAD_ROW, str(error)) from None


def _pair(query: Text, document: Text) -> Row:
    try:
        return make_group(_read(query), [_read(document)])
    except ConversationError as error:
        return RowError(Problem.BAD_ROW, str(error))


def _read(text: Document) -> str:
    """Return a text that may have come in parts."""
    if isinstance(text, str):
        return text
    if isinstance(text, JinaDocument):
        return text.text
    content = read_content(text.model_dump(exclude_unset=True))
    if content is None:
        raise ConversationError("only texts can be scored, no images and no videos")
    return content


def _rank(numbers: Numbers, top_n: int | None) -> list[tuple[int, float]]:
    """Return the best documents that have a number, best first, each with its place in the request."""
    found = [(index, value) for index, value in enumerate(numbers.values) if value is not None]
    return sorted(found, key=lambda one: -one[1])[: top_n or None]


def _name_unscored(results: Sequence[Result], numbers: Numbers) -> list[dict[str, object]]:
    """Say of the only row of a request why documents have no score."""
    [result] = results
    return [
        {"index": index, "outcome": result.problem if isinstance(result, RowError) else result[index].outcome}
        for index, scored in enumerate(numbers.scored)
        if not scored
    ]


SCORE = Contract("Score pairs, as vLLM does", TypeAdapter(ScoreRequest), TypeAdapter(ScoreAnswer))
"""The contract of `/score` and `/v1/score`."""
RERANK = Contract(
    "Order documents, as vLLM, Jina and TEI do",
    TypeAdapter(RerankRequest | TeiRerankRequest),
    TypeAdapter(RerankAnswer | list[TeiRank]),
    (RerankRequest, TeiRerankRequest),
)
"""The contract of `/rerank`, `/v1/rerank` and `/v2/rerank`: `documents` are vLLM's and Jina's, `texts` are TEI's."""
