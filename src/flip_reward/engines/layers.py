"""`EngineLayer`: what every engine around another engine shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from flip_reward.engines.base import Completion, Engine, LogprobRequest, Request, TokenLogprobs

Question = TypeVar("Question", Request, LogprobRequest)
Answer = TypeVar("Answer", Completion, TokenLogprobs)


class EngineLayer(ABC):
    """An engine around an engine, which does the same with whatever is asked (`_pass_on`).

    What a layer does never changes an answer, so model and identity are those of the engine inside.

    Args:
        engine: The engine inside.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def model(self) -> str:
        """The model's name, as records show it."""
        return self.engine.model

    @property
    def identity(self) -> str:
        """Everything besides the request that an answer depends on."""
        return self.engine.identity

    # Not `async`: each coroutine more would be one more step on the way of every reward.

    def complete(self, request: Request) -> Coroutine[object, object, Completion]:
        """Answer one request; see `Engine.complete`."""
        return self._pass_on(request, self.engine.complete)

    def logprobs(self, request: LogprobRequest) -> Coroutine[object, object, TokenLogprobs]:
        """Say how likely a continuation is; see `Engine.logprobs`."""
        return self._pass_on(request, self.engine.logprobs)

    async def aclose(self) -> None:
        """Release what the engine inside holds for the running event loop."""
        await self.engine.aclose()

    @abstractmethod
    async def _pass_on(self, question: Question, ask: Callable[[Question], Awaitable[Answer]]) -> Answer:
        """Ask the engine inside.

        Args:
            question: What is asked.
            ask: The method of the engine inside that answers it, with one attempt.
        """
