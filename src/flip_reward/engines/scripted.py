"""A deterministic engine without a model, for tests, dry runs and measurements of everything around the model."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import Callable, Sequence

from flip_reward.core.score import Usage
from flip_reward.engines.base import (
    Classification,
    ClassifyRequest,
    Completion,
    LogprobRequest,
    Request,
    TokenLogprobs,
    check_number,
    complete_one_by_one,
)
from flip_reward.errors import RequestRefusedError

Script = Callable[[Request], str | Completion]
LogprobScript = Callable[[LogprobRequest], Sequence[float]]
ClassifyScript = Callable[[ClassifyRequest], float]
FirstTokenScript = Callable[[Request], Sequence[tuple[str, float]]]


def echo_last_words(request: Request) -> str:
    """Answer every request with a verdict made of the last eight words of its last message."""
    words = request.messages[-1].content[-400:].translate(_UNQUOTED).split()[-8:]
    return f'{{"REASONING": "scripted", "INFERRED INSTRUCTION": "{" ".join(words)}"}}'


def expect_known_words(request: LogprobRequest) -> list[float]:
    """Score the words of a continuation as its tokens; those that the prefix holds too are more likely.

    Example:
        >>> expect_known_words(LogprobRequest("Apples and pears. The question was:", " Which fruit and nuts?"))
        [-4.0, -4.0, -1.0, -4.0]
    """
    prefix = request.prefix
    texts = [prefix] if isinstance(prefix, str) else [message.content for message in prefix]
    known = {word for text in texts for word in text.split()}
    return [-1.0 if word in known else -4.0 for word in request.continuation.split()]


def count_known_words(request: ClassifyRequest) -> float:
    """Reward a response by the share of its words that the last message holds too, from -1 to 1.

    Example:
        >>> from flip_reward.core.conversation import Message
        >>> count_known_words(ClassifyRequest((Message("user", "Name a fruit."),), "It is a fruit."))
        0.0
    """
    asked = set(request.messages[-1].content.split()) if request.messages else set()
    words = request.response.split()
    return 2 * sum(word in asked for word in words) / max(len(words), 1) - 1


def weigh_quoted_words(request: Request) -> list[tuple[str, float]]:
    """Let a reply begin with one of the words that the first message has in quotes, the likeliest first.

    How likely each is depends on a hash of the messages.

    Example:
        >>> from flip_reward.core.conversation import Message
        >>> [word for word, _ in weigh_quoted_words(Request((Message("user", 'Answer "Yes" or "No".'),)))]
        ['Yes', 'No']
    """
    words = dict.fromkeys(_QUOTED.findall(request.messages[0].content)) or {"Yes": None}
    asked = "".join([message.content for message in request.messages])
    weights = {word: 1 + hashlib.sha256(f"{word} {asked}".encode(errors="replace")).digest()[0] for word in words}
    total = sum(weights.values())
    return sorted(((word, math.log(weight / total)) for word, weight in weights.items()), key=lambda pair: -pair[1])


_QUOTED = re.compile(r'"(\w{1,20})"')
_UNQUOTED = {ord('"'): None, ord("\\"): None, **dict.fromkeys(range(32), " ")}


class ScriptedEngine:
    """Answers from a script: a function from request to reply.

    Args:
        script: Called once for each reply. An `EngineError` it raises is this engine's failure.
        logprob_script: Called for each request for log-probabilities.
        classify_script: Called for each request for a trained model's reward.
        first_token_script: Called for each request for `top_logprobs`, whose reply is the first of these tokens.
        latency_seconds: How long each answer takes.
        model: The model's name.

    Attributes:
        requests: How many requests it has answered or failed.

    Example:
        >>> import asyncio
        >>> from flip_reward.core.conversation import Message
        >>> engine = ScriptedEngine(lambda request: "Name three fruits.")
        >>> asyncio.run(engine.complete(Request((Message("user", "..."),)))).text
        'Name three fruits.'
    """

    def __init__(
        self,
        script: Script = echo_last_words,
        *,
        logprob_script: LogprobScript = expect_known_words,
        classify_script: ClassifyScript = count_known_words,
        first_token_script: FirstTokenScript = weigh_quoted_words,
        latency_seconds: float = 0.0,
        model: str = "scripted",
    ) -> None:
        self._script = script
        self._logprob_script = logprob_script
        self._classify_script = classify_script
        self._first_token_script = first_token_script
        self._latency_seconds = latency_seconds
        self.model = model
        self.identity = f"scripted/{model}"
        self.requests = 0

    async def complete(self, request: Request) -> Completion:
        """Answer from the script."""
        if request.n > 1:
            return await complete_one_by_one(request, self.complete)
        self.requests += 1
        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)
        reply = self._script(request)
        if isinstance(reply, Completion):
            return reply
        prompt_words = sum([message.content.count(" ") + 1 for message in request.messages])
        if request.top_logprobs:
            top = tuple(self._first_token_script(request))[: request.top_logprobs]
            return Completion(top[0][0] if top else "", "length", Usage(prompt_words, 1), top_logprobs=top)
        return Completion(reply, usage=Usage(prompt_words, reply.count(" ") + 1))

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        """Answer from the script for log-probabilities."""
        if not request.continuation:
            raise RequestRefusedError("there is no continuation to score", status=400)
        self.requests += 1
        await asyncio.sleep(self._latency_seconds)
        values = tuple(self._logprob_script(request))
        return TokenLogprobs(values, Usage(len(values)))

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Answer from the script for rewards."""
        self.requests += 1
        await asyncio.sleep(self._latency_seconds)
        value = self._classify_script(request)
        words = (
            sum([message.content.count(" ") + 1 for message in request.messages]) + request.response.count(" ") + 1
        )
        return check_number(Classification(value, Usage(words)))

    async def aclose(self) -> None:
        """Nothing to release."""
