"""Servers that give the numbers of a trained reward model in the recorded forms of vLLM, SGLang, TEI and others.

The shapes are those of vLLM 0.9 to 0.2x (`entrypoints/pooling`), SGLang 0.5 (`/classify` of `http_server.py`,
`serving_rerank.py`), TEI 1.9 (`router/src/http`), Jina's and Cohere's rerank APIs and llama.cpp's server.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.http.fault_server import Choose, FaultServer, never

Answer = Any

NO_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if "
    "the tokenizer does not define one."
)


def rate(text: str) -> float:
    """The toy model's number for a response, far from a probability."""
    return len(text) / 8 - 20.0


class _RefusedError(Exception):
    """A status and a body, in the server's own form."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


class ClassifyServer(FaultServer):
    """A server of one reward model; `kind` says which.

    - "vllm": `/classify` and `/pooling` take conversations.
    - "vllm-pooling": `/classify` takes texts alone, `/pooling` conversations.
    - "vllm-old": `/classify` takes texts alone, `/pooling` gives a number for each token; `/score` would answer.
    - "vllm-reranker": a cross-encoder without a chat template.
    - "vllm-generative": a language model.
    - "sglang": `/classify` takes texts or tokens.
    - "jina", "cohere" (which refuses fields that it does not know), "llamacpp", "tei", "tei-labels".

    Args:
        values: From the response, or its tokens, to the numbers of the head before softmax or sigmoid.
        spoil: Changes an answer.
    """

    def __init__(
        self,
        kind: str,
        choose: Choose = never,
        *,
        values: Callable[[Any], list[float]] | None = None,
        spoil: Callable[[Answer], Answer] = lambda answer: answer,
        context_words: int = 200,
        ignores_activation: bool = False,
    ) -> None:
        super().__init__(choose, takes_any_name=True)
        self._kind = kind
        self._values = values or (lambda text: [rate(text)])
        self._spoil = spoil
        self._words = context_words
        self._ignores_activation = ignores_activation

    @property
    def paths(self) -> list[str]:
        """Where the requests went that posted something."""
        return [received.path for received in self.received]

    def add_routes(self, router: web.UrlDispatcher) -> None:
        family = self._kind.partition("-")[0]
        if family in ("vllm", "sglang", "llamacpp"):
            router.add_get("/v1/models", self._name_owner)
        if family == "vllm":
            router.add_post("/classify", self._handle(self._vllm_classify))
            router.add_post("/pooling", self._handle(self._vllm_pooling))
            router.add_post("/score", self._handle(self._vllm_score))
            router.add_post("/rerank", self._handle(self._jina))
        if family == "sglang":
            router.add_post("/classify", self._handle(self._sglang))
            router.add_post("/v1/classify", self._handle(lambda _: {"data": [{"index": 0, "probs": [1.0]}]}))
        if family in ("jina", "cohere"):
            router.add_post("/v1/rerank", self._handle(self._jina))
        if family == "llamacpp":
            router.add_post("/rerank", self._handle(self._jina))
        if family == "tei":
            router.add_post("/rerank", self._handle(self._tei_rerank))
            router.add_post("/predict", self._handle(self._tei_predict))

    async def _name_owner(self, _: web.Request) -> web.Response:
        owner = self._kind.partition("-")[0]
        return web.json_response({"object": "list", "data": [{"id": self.model, "owned_by": owner}]})

    def _handle(self, reply: Callable[[dict[str, Any]], Answer]) -> Callable[[web.Request], Awaitable[Any]]:
        async def handle(http_request: web.Request) -> web.StreamResponse:
            body = await http_request.json()
            try:
                answer = reply({"model": self.model, **body})
            except _RefusedError as refusal:
                self.received.append(_received(http_request, body))
                return web.json_response(refusal.body, status=refusal.status)
            rendered = None if answer is None else json.dumps(self._spoil(answer))
            return await self.answer(http_request, lambda _: http_request.path, lambda _: rendered)

        return handle

    def _activate(self, numbers: list[float], body: dict[str, Any]) -> list[float]:
        if body.get("use_activation") is False and not self._ignores_activation:
            return numbers
        if len(numbers) == 1:
            return [1.0] if self._ignores_activation else [1 / (1 + math.exp(-numbers[0]))]
        total = sum(map(math.exp, numbers))
        return [math.exp(number) / total for number in numbers]

    def _read_chat(self, body: dict[str, Any]) -> str | None:
        if self._kind == "vllm-generative":
            raise _RefusedError(400, _error(400, "The model does not support Classification API"))
        if self._kind == "vllm-reranker":
            raise _RefusedError(400, _error(400, NO_TEMPLATE))
        words = sum(len(turn["content"].split()) for turn in body["messages"])
        assert not body.get("add_generation_prompt")
        assert body["messages"][-1]["role"] == "assistant"
        return None if words > self._words else body["messages"][-1]["content"]

    def _vllm_classify(self, body: dict[str, Any]) -> Answer:
        if "messages" not in body or self._kind in ("vllm-old", "vllm-pooling"):
            raise _RefusedError(
                400, _error(400, "[{'type': 'missing', 'loc': ('body', 'input'), 'msg': 'Field required'}]")
            )
        reply = self._read_chat(body)
        if reply is None:
            return None
        probs = self._activate(self._values(reply), body)
        entry = {"index": 0, "label": "LABEL_0", "probs": probs, "num_classes": len(probs)}
        usage = {"prompt_tokens": 7, "total_tokens": 7, "completion_tokens": 0, "prompt_tokens_details": None}
        return {"id": "classify-1", "object": "list", "model": self.model, "data": [entry], "usage": usage}

    def _vllm_pooling(self, body: dict[str, Any]) -> Answer:
        reply = self._read_chat(body)
        if reply is None:
            return None
        data: Any = self._activate(self._values(reply), body)
        if self._kind == "vllm-old":  # it knows no `task`
            data = [[0.5], [0.25], data]
        return {"object": "list", "data": [{"index": 0, "object": "pooling", "data": data}], "usage": {}}

    def _vllm_score(self, body: dict[str, Any]) -> Answer:
        [score] = self._activate(self._values(body["text_2"]), body)
        return {"object": "list", "data": [{"index": 0, "object": "score", "score": score}], "usage": {}}

    def _sglang(self, body: dict[str, Any]) -> Answer:
        if "text" not in body and "input_ids" not in body:
            raise _RefusedError(400, {"error": {"message": "Either text or input_ids should be provided."}})
        read = body.get("text") or body["input_ids"]
        meta_info = {"id": "1", "finish_reason": {"type": "length", "length": 0}, "prompt_tokens": len(read)}
        return {"embedding": self._values(read), "meta_info": {**meta_info, "cached_tokens": 1}}

    def _jina(self, body: dict[str, Any]) -> Answer:
        known = {"model", "query", "documents", "top_n"}
        if self._kind == "cohere" and not body.keys() <= known:
            raise _RefusedError(422, {"message": "unknown field: parameter 'use_activation' is not a valid field"})
        if "documents" not in body:
            raise _RefusedError(422, {"detail": [{"loc": ["body", "documents"], "msg": "Field required"}]})
        [document] = body["documents"]
        result = {"index": 0, "document": {"text": document}, "relevance_score": self._values(document)[0]}
        return {"id": "rerank-1", "model": self.model, "results": [result], "usage": {"total_tokens": 9}}

    def _tei_rerank(self, body: dict[str, Any]) -> Answer:
        if self._kind == "tei-labels":
            raise _RefusedError(424, {"error": "model is not a re-ranker model", "error_type": "Backend"})
        if "texts" not in body:
            raise _RefusedError(422, {"error": "Failed to deserialize the JSON body: missing field `texts`"})
        assert body["truncate"] is False
        if len(body["texts"][0].split()) > self._words:
            raise _RefusedError(
                413, {"error": "`inputs` must have less than 512 tokens. Given: 700", "error_type": "Validation"}
            )
        return [{"index": 0, "score": self._values(body["texts"][0])[0] if body["raw_scores"] else 0.5}]

    def _tei_predict(self, body: dict[str, Any]) -> Answer:
        [[_, reply]] = body["inputs"]
        scores = self._activate(self._values(reply), {"use_activation": not body["raw_scores"]})
        named = [{"score": score, "label": f"LABEL_{number}"} for number, score in enumerate(scores)]
        return [sorted(named, key=lambda entry: -float(entry["score"]))]


def _error(status: int, message: str) -> Any:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}


def _received(http_request: web.Request, body: dict[str, Any]) -> Any:
    from tests.http.fault_server import Received

    return Received(http_request.headers.copy(), body, 0, http_request.path)
