"""Servers that say how likely a text is in the forms that vLLM, SGLang and others answer in, with a toy model.

The shapes are those of vLLM 0.1x to 0.3x (`entrypoints/openai/completion/serving.py`, `serve/tokenize/protocol.py`)
and of SGLang 0.5 (`entrypoints/openai/serving_tokenize.py`, `/generate`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.http.fault_server import Choose, FaultServer, never
from tests.http.toy_model import logprob, spell, tokenize

Answer = dict[str, Any]


def as_it_is(answer: Answer) -> Answer:
    """Change nothing."""
    return answer


class LogprobServer(FaultServer):
    """Lists one model, chats as `FaultServer` does, and answers completions that are asked for log-probabilities.

    Args:
        owner: What it puts into its list of models; None has no list.
        choose: Which request fails, and how; asked about the path instead of the prompt.
        change: Spoils an answer with log-probabilities.
        split: From a text to its tokens.
        has_tokenizer: It has `/tokenize`.
        echoes: It does not ignore `echo`.
        context_tokens: The longest prompt, with one token after it.
        api_key: The key it wants, if any.
    """

    def __init__(
        self,
        owner: str | None,
        choose: Choose = never,
        *,
        change: Callable[[Answer], Answer] = as_it_is,
        split: Callable[[str], Any] = tokenize,
        has_tokenizer: bool = True,
        echoes: bool = True,
        context_tokens: int = 2000,
        api_key: str | None = None,
        latency_seconds: float = 0.0,
    ) -> None:
        super().__init__(choose, context_words=2000, api_key=api_key, latency_seconds=latency_seconds)
        self._owner = owner
        self._change = change
        self._split = split
        self._has_tokenizer = has_tokenizer
        self._echoes = echoes
        self._context_tokens = context_tokens

    @property
    def paths(self) -> list[str]:
        """Where the requests went that posted something."""
        return [received.path for received in self.received]

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/chat/completions", self._complete)
        router.add_post("/v1/completions", self._handle(self._completions))
        if self._owner is not None:
            router.add_get("/v1/models", self._list_models)
        if self._has_tokenizer:
            router.add_post("/tokenize", self._handle(self._tokenize))
        if self._owner == "sglang":
            router.add_post("/generate", self._handle(self._generate))

    async def _list_models(self, _: web.Request) -> web.Response:
        other = {"id": "another", "owned_by": "somebody"}
        model = {"id": self.model, "object": "model", "owned_by": self._owner}
        return web.json_response({"object": "list", "data": [other, model]})

    def _handle(
        self, reply: Callable[[dict[str, Any]], Answer | None]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        def render(body: dict[str, Any]) -> str | None:
            answer = reply(body)
            return None if answer is None else json.dumps(answer)

        async def handle(http_request: web.Request) -> web.StreamResponse:
            return await self.answer(http_request, lambda _: http_request.path, render)

        return handle

    def _tokenize(self, body: dict[str, Any]) -> Answer:
        assert body["add_special_tokens"]
        tokens = self._split(body["prompt"])
        return {"count": len(tokens), "max_model_len": self._context_tokens, "tokens": tokens, "token_strs": None}

    def _completions(self, body: dict[str, Any]) -> Answer | None:
        assert body["max_tokens"] == 1
        prompt = body["prompt"]
        tokens = self._split(prompt) if isinstance(prompt, str) else prompt
        if len(tokens) >= self._context_tokens:
            return None
        reply = [*tokens, ord("!") + 3]
        choice: Answer = {"index": 0, "text": "!", "logprobs": None, "finish_reason": "length"}
        if body.get("echo") and self._echoes:
            choice |= {"text": prompt + "!", "logprobs": _list_logprobs(reply)}
        elif body.get("logprobs"):
            choice["logprobs"] = {name: values[-1:] for name, values in _list_logprobs(reply).items()}
        if "prompt_logprobs" in body and self._owner == "vllm":
            choice["prompt_logprobs"] = [None, *(_describe(tokens, index) for index in range(1, len(tokens)))]
        usage = {"prompt_tokens": len(tokens), "completion_tokens": 1, "total_tokens": len(reply)}
        return self._change({"object": "text_completion", "choices": [choice], "usage": usage})

    def _generate(self, body: dict[str, Any]) -> Answer | None:
        assert body["return_logprob"]
        tokens, start = body["input_ids"], body["logprob_start_len"]
        if len(tokens) >= self._context_tokens:
            return None
        entries = [
            [
                None if index == start else logprob(tokens[:index], tokens[index]),
                tokens[index],
                spell(tokens[index]) if body["return_text_in_logprobs"] else None,
            ]
            for index in range(start, len(tokens))
        ]
        meta_info = {"prompt_tokens": len(tokens), "completion_tokens": 0, "cached_tokens": start}
        return self._change({"text": "", "meta_info": {**meta_info, "input_token_logprobs": entries}})


def _list_logprobs(tokens: list[int]) -> dict[str, list[Any]]:
    texts = [spell(token) for token in tokens]
    values = [logprob(tokens[:index], token) for index, token in enumerate(tokens)]
    return {
        "tokens": texts,
        "token_logprobs": [None, *values[1:]],
        # vLLM counts the characters of "<s>", which the text of the answer does not hold.
        "text_offset": [sum(map(len, texts[:index])) for index in range(len(texts))],
        "top_logprobs": [None, *({text: value} for text, value in zip(texts[1:], values[1:], strict=True))],
    }


def _describe(tokens: list[int], index: int) -> Answer:
    token = tokens[index]
    return {str(token): {"logprob": logprob(tokens[:index], token), "rank": 3, "decoded_token": spell(token)}}
