"""`FaultServer`: a real OpenAI-compatible server on the loopback that fails on purpose.

    with FaultServer(by_chance({Fault.BUSY: 0.2}, seed=1)) as server:
        engine = HttpEngine(server.base_url, server.model)

It runs in a thread of its own, so that synchronous and asynchronous tests and other processes can all reach it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import ssl
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from aiohttp import web

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, Request, Sampling, Usage
from flip_reward.engines.scripted import Script, echo_last_words


class Fault(StrEnum):
    """What goes wrong with one request."""

    REFUSED = "400"
    UNAUTHORIZED = "401"
    PAYMENT_REQUIRED = "402"
    FORBIDDEN = "403"
    TIMEOUT = "408"
    CONFLICT = "409"
    UNPROCESSABLE = "422"
    TOO_EARLY = "425"
    BUSY = "429"
    SERVER_ERROR = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    CONTEXT_TOO_LONG = "context too long"
    RESET = "reset"
    STALL = "stall"
    HALF_BODY = "half a body"
    HTML = "html"
    NO_CHOICES = "no choices"
    NULL_CONTENT = "null content"
    ONE_CHOICE = "one choice"
    UNLOADED = "the model was unloaded"
    QUOTA = "the quota is spent"
    DAILY_LIMIT = "the limit of the day is reached"
    LOGIN = "sent to a login page"


TRANSIENT = (
    Fault.TIMEOUT,
    Fault.CONFLICT,
    Fault.TOO_EARLY,
    Fault.BUSY,
    Fault.SERVER_ERROR,
    Fault.BAD_GATEWAY,
    Fault.UNAVAILABLE,
    Fault.RESET,
    Fault.STALL,
    Fault.HALF_BODY,
    Fault.HTML,
    Fault.NO_CHOICES,
)
"""Faults after which the same request is worth sending again."""


def patience(fault: Fault) -> float:
    """How many seconds to wait for an answer: only a stall is to be a timeout, however busy the machine is."""
    return 1.0 if fault is Fault.STALL else 30.0


Choose = Callable[[str, int], Fault | None]
"""From a prompt and the number of times it has been asked, counted from 1, to what goes wrong."""


def never(prompt: str, number: int) -> Fault | None:  # noqa: ARG001 - the shape of `Choose`
    """Answer everything."""
    return None


def from_then_on(fault: Fault, *, after: int) -> Choose:
    """Answer a number of requests, whatever they ask, and fail all that follow."""
    requests = itertools.count()
    return lambda _prompt, _number: None if next(requests) < after else fault


def at_first(fault: Fault, *, times: int = 1) -> Choose:
    """Fail the first `times` requests of every prompt."""
    return lambda _prompt, number: fault if number <= times else None


def by_chance(rates: Mapping[Fault, float], *, seed: int = 0) -> Choose:
    """Fail each request with the given probability; the same seed fails the same requests of the same prompts."""
    faults, weights = [None, *rates], [1 - sum(rates.values()), *rates.values()]

    def choose(prompt: str, number: int) -> Fault | None:
        return random.Random(f"{seed} {number} {prompt}").choices(faults, weights)[0]

    return choose


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived."""

    headers: Mapping[str, str]
    body: dict[str, Any]
    client_port: int
    path: str


class FaultServer:
    """Answers chat completions, or fails, as `choose` says.

    Args:
        choose: Which request fails, and how.
        script: From request to reply; the default is the scripted engine's, so that scores can be compared with it.
        model: The only model it knows.
        api_key: The key it wants, if any.
        context_words: The longest prompt and reply together, in words.
        most_choices: How many replies it draws for one request; it ignores what `n` asks for beyond.
        latency_seconds: How long an answer takes.
        retry_after: The Retry-After header of refusals that ask for patience.
        port: Where to listen; 0 takes a free port.
        takes_any_name: It answers whatever model is asked for; it lists `model` all the same.
        tls: It speaks https.

    Attributes:
        base_url: Its address, ending in /v1.
        requests: How often each prompt (the content of the last message) has been asked.
        injected: How often each fault has happened.
        lists_asked: How often it was asked for its models.
        most_in_flight: The most requests that were ever there together.
        received: The latest requests.
    """

    def __init__(
        self,
        choose: Choose = never,
        *,
        script: Script = echo_last_words,
        model: str = "test-model",
        api_key: str | None = None,
        context_words: int | None = None,
        most_choices: int = 1,
        latency_seconds: float = 0.0,
        retry_after: str = "0.01",
        port: int = 0,
        takes_any_name: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.model = model
        self.base_url = ""
        self.requests: Counter[str] = Counter()
        self.injected: Counter[Fault] = Counter()
        self.lists_asked = 0
        self.most_in_flight = 0
        self.received: deque[Received] = deque(maxlen=1000)
        self._choose = choose
        self._script = script
        self._api_key = api_key
        self._context_words = context_words
        self._most_choices = most_choices
        self._latency_seconds = latency_seconds
        self._retry_after = retry_after
        self._port = port
        self._takes_any_name = takes_any_name
        self._tls = tls
        self._in_flight = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10), "the server did not start"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=2**26)
        self.add_routes(app.router)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=self._tls).start()
        self._port = runner.addresses[0][1]
        self.base_url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}/v1"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Say what is answered where."""
        router.add_post("/v1/chat/completions", self._complete)
        router.add_get("/v1/models", self._list_models)

    async def _list_models(self, _: web.Request) -> web.Response:
        self.lists_asked += 1
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _complete(self, http_request: web.Request) -> web.StreamResponse:
        return await self.answer(http_request, lambda body: body["messages"][-1]["content"], self._chat)

    async def answer(
        self,
        http_request: web.Request,
        read_prompt: Callable[[dict[str, Any]], str],
        reply: Callable[[dict[str, Any]], str | None],
    ) -> web.StreamResponse:
        """Answer one request, or fail it.

        Args:
            http_request: As it came.
            read_prompt: From its body to what `choose` is asked about.
            reply: From its body to the answer's JSON; None when the request is too long.
        """
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            return await self._answer(http_request, read_prompt, reply)
        finally:
            self._in_flight -= 1

    async def _answer(
        self,
        http_request: web.Request,
        read_prompt: Callable[[dict[str, Any]], str],
        reply: Callable[[dict[str, Any]], str | None],
    ) -> web.StreamResponse:
        body = await http_request.json()
        received = Received(http_request.headers.copy(), body, _client_port(http_request), http_request.path)
        self.received.append(received)
        if self._api_key is not None and http_request.headers.get("Authorization") != f"Bearer {self._api_key}":
            shown = http_request.headers.get("Authorization", "nothing")
            return fail(401, f"Incorrect API key provided: {shown}", code="invalid_api_key")
        if body["model"] != self.model and not self._takes_any_name:
            return fail(404, f"The model `{body['model']}` does not exist.", code="model_not_found")
        prompt = read_prompt(body)
        self.requests[prompt] += 1
        await asyncio.sleep(self._latency_seconds)
        answer = reply(body)
        fault = self._choose(prompt, self.requests[prompt]) if answer is not None else Fault.CONTEXT_TOO_LONG
        if fault is None:
            return web.Response(text=answer, content_type="application/json")
        self.injected[fault] += 1
        return await self._inject(fault, http_request, answer or "")

    def _chat(self, body: dict[str, Any]) -> str | None:
        replies = [self._reply(body, number) for number in range(min(body.get("n", 1), self._most_choices))]
        words = replies[0].usage.prompt_tokens + _most_tokens(body)
        if self._context_words is not None and words > self._context_words:
            return None
        return _render(replies, self.model, body.get("top_logprobs", 0))

    def _reply(self, body: dict[str, Any], number: int) -> Completion:
        seed = body.get("seed")
        most = _most_tokens(body)
        sampling = Sampling(body.get("temperature", 1.0), most, seed=None if seed is None else seed + number)
        messages = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
        request = Request(messages, sampling)
        reply = self._script(request)
        if isinstance(reply, Completion):
            return reply
        words = reply.split(" ")
        kept = words[:most]
        prompt_words = sum(message.content.count(" ") + 1 for message in request.messages)
        return Completion(
            " ".join(kept),
            "stop" if kept == words else "length",
            Usage(prompt_words, len(kept)),
        )

    async def _inject(self, fault: Fault, http_request: web.Request, answer: str) -> web.StreamResponse:
        match fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.RESET:
                _abort(http_request)
            case Fault.HALF_BODY:
                response = web.StreamResponse(headers={"Content-Length": str(len(answer.encode()))})
                await response.prepare(http_request)
                await response.write(answer.encode()[: len(answer) // 2])
                _close(http_request)
                return response
            case Fault.HTML:
                return web.Response(text="<!DOCTYPE html><html><h1>Welcome</h1></html>", content_type="text/html")
            case Fault.NO_CHOICES:
                return web.json_response({"id": "1", "object": "chat.completion"})
            case Fault.NULL_CONTENT:
                nothing = {"role": "assistant", "content": None, "reasoning_content": "I wonder"}
                return web.json_response({"choices": [{"index": 0, "message": nothing, "finish_reason": "stop"}]})
            case Fault.ONE_CHOICE:
                return fail(500, "Only one completion choice is allowed")
            case Fault.CONTEXT_TOO_LONG:
                return fail(400, "This model's maximum context length is 8 tokens. However, you requested 9 tokens.")
            case _:
                return _refuse(fault, self._retry_after)
        return web.Response()


def _refuse(fault: Fault, retry_after: str) -> web.Response:
    match fault:
        case Fault.UNLOADED:
            return fail(404, "The model `test-model` does not exist.", code="model_not_found")
        case Fault.QUOTA:
            return fail(429, "You exceeded your current quota.", code="insufficient_quota")
        case Fault.DAILY_LIMIT:
            message = "Rate limit reached on requests per day (RPD): Limit 200, Used 200."
            return fail(429, message, code="rate_limit_exceeded", headers={"Retry-After": "1"})
        case Fault.LOGIN:
            return web.Response(status=307, headers={"Location": "https://sso.example/login?ticket=secret"})
        case _:
            return fail(int(fault), f"injected {fault}", headers={"Retry-After": retry_after})


def _most_tokens(body: Mapping[str, Any]) -> int:
    most: int = body.get("max_tokens") or body["max_completion_tokens"]
    return most


def list_alternatives(top: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Say how a reply could have begun, in the form of OpenAI, vLLM, SGLang, llama.cpp and Ollama."""
    named = [{"token": text, "logprob": value, "bytes": list(text.encode())} for text, value in top]
    return {"content": [{**named[0], "top_logprobs": named}], "refusal": None}


def _write_logprobs(reply: Completion, count: int) -> dict[str, Any] | None:
    first = (reply.text or "").split(" ")[0]
    top = reply.top_logprobs or [(first, -0.2), *((word, -3.0) for word in ("Yes", "No") if word != first)]
    return list_alternatives(top[:count]) if count else None


def _render(replies: Sequence[Completion], model: str, top_logprobs: int) -> str:
    prompt_tokens = replies[0].usage.prompt_tokens
    completion_tokens = sum(reply.usage.completion_tokens for reply in replies)
    thoughts = None if top_logprobs else "secret thoughts"  # they would have the first token
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": model,
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": reply.text, "reasoning_content": thoughts},
                    "finish_reason": reply.finish_reason,
                    "logprobs": _write_logprobs(reply, top_logprobs),
                }
                for index, reply in enumerate(replies)
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
                "prompt_tokens_details": {"cached_tokens": replies[0].usage.cached_tokens},
            },
        }
    )


def fail(
    status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with an error, in the form of OpenAI."""
    error = {"message": message, "type": "error", "code": code or status}
    return web.json_response({"error": error}, status=status, headers=headers)


def _client_port(http_request: web.Request) -> int:
    assert http_request.transport is not None
    return int(http_request.transport.get_extra_info("peername")[1])


def _abort(http_request: web.Request) -> None:
    if isinstance(http_request.transport, asyncio.WriteTransport):
        http_request.transport.abort()


def _close(http_request: web.Request) -> None:
    if http_request.transport is not None:
        http_request.transport.close()


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """Answer everything with the same bytes, at the HOST:PORT that this gives."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
