"""The `Engine` protocol, and what goes in and comes out of one."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import Field

from flip_reward.core.chat.marks import Marks
from flip_reward.core.conversation import Message
from flip_reward.core.replies.ending import Ending
from flip_reward.core.score import Usage
from flip_reward.errors import EngineServerError, NoClassifierError, OptionError, RequestRefusedError

__all__ = [
    "AnyRequest",
    "Classification",
    "Classifier",
    "ClassifyRequest",
    "Completion",
    "Engine",
    "JsonSchema",
    "LogprobRequest",
    "Request",
    "Sampling",
    "TokenLogprobs",
    "Usage",
    "check_ending",
    "check_number",
    "classify_with",
    "complete_one_by_one",
    "disarm_messages",
    "disarm_request",
    "find_adaptations",
    "join_completions",
    "split_request",
]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn.

    Example:
        >>> Sampling(temperature=0.7, seed=1).max_tokens
        512
    """

    panel: ClassVar[str] = "Sampling"

    temperature: Annotated[float, Field(ge=0, description="0 is greedy: the likeliest token each time.")] = 0.0
    max_tokens: Annotated[int, Field(ge=1, description="The most tokens of a reply.")] = 512
    top_p: Annotated[
        float | None, Field(gt=0, le=1, description="Nucleus sampling. By default the engine's own.")
    ] = None
    seed: Annotated[
        int | None, Field(ge=0, le=2**63 - 1, description="Makes sampling repeatable, where the engine can.")
    ] = None


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A schema that the reply must follow, where the engine can constrain decoding."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a language model.

    Attributes:
        messages: The rendered prompt.
        sampling: How the reply is drawn.
        json_schema: Constrains the reply, where given.
        n: How many replies are drawn, at least 1.
        top_logprobs: How many of the likeliest first tokens of the reply are wanted, with their log-probabilities.

    Example:
        >>> Request((Message("user", "Name three fruits."),), Sampling(temperature=0.7, seed=1), n=2).repeatable
        True
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    json_schema: JsonSchema | None = None
    n: int = 1
    top_logprobs: int = 0

    def __hash__(self) -> int:
        """Hash what the messages say: nearly all requests differ in it, and all of one takes three times as long."""
        return hash(tuple([message.content for message in self.messages]))

    @property
    def repeatable(self) -> bool:
        """Whether the same request means the same answer, so that it may be cached and shared."""
        return self.sampling.temperature == 0 or self.sampling.seed is not None


@dataclass(frozen=True, slots=True)
class LogprobRequest:
    """Asks how likely a text is after another one.

    Attributes:
        prefix: What comes before: a text as it is, or messages that the model's chat template turns into one, up to
            where the reply begins.
        continuation: The text whose tokens are scored. It follows the prefix directly: white space between the two
            is part of one of them.
    """

    prefix: str | tuple[Message, ...]
    continuation: str

    @property
    def repeatable(self) -> bool:
        """Nothing is drawn."""
        return True


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """Asks a trained reward model for its number.

    Attributes:
        messages: The conversation up to the response.
        response: The assistant's next turn, which is rewarded.
    """

    messages: tuple[Message, ...]
    response: str

    @property
    def repeatable(self) -> bool:
        """Nothing is drawn."""
        return True


AnyRequest = TypeVar("AnyRequest", Request, LogprobRequest, ClassifyRequest)


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a language model.

    Attributes:
        text: The reply as it came; None when the engine sent none.
        finish_reason: Why it ended: "stop", "length", "content_filter", ... as the engine names it.
        usage: Tokens spent.
        attempts: How many times the request was sent.
        cached: The reply came from the response cache.
        others: The further completions of a request with `n` above 1. Their usage is counted in this one's.
        detail: One line more on why there is no text, or not all of it, where the engine knows.
        repeatable: The engine did what makes the answer repeatable; if not, it is not cached.
        top_logprobs: Where they were asked for, the likeliest tokens that the reply could have begun with, the
            likeliest first: the text of each and the natural logarithm of its probability before sampling, at most
            0. There may be fewer than were asked for; none where the reply has no token.

    Example:
        >>> Completion("Apples, pears and plums.").finish_reason
        'stop'
    """

    text: str | None
    finish_reason: str | None = "stop"
    usage: Usage = Usage()
    attempts: int = 1
    cached: bool = False
    others: tuple[Completion, ...] = ()
    detail: str | None = None
    repeatable: bool = True
    top_logprobs: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely a continuation is, token by token."""

    values: tuple[float, ...]
    """The natural logarithm of each token's probability after all tokens before it, at most 0. The tokens are those
    of prefix and continuation, as one text, that hold a character of the continuation; a token that the tokenizer
    joined across the boundary is among them.
    """
    usage: Usage = Usage()
    attempts: int = 1
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Classification:
    """What a trained reward model says of a response: one finite number."""

    value: float
    usage: Usage = Usage()
    attempts: int = 1
    cached: bool = False


Answer = TypeVar("Answer", Completion, TokenLogprobs, Classification)


@runtime_checkable
class Engine(Protocol):
    """A language model that answers one request at a time, asynchronously.

    Batching is up to the engine. Retries, limits, caching and de-duplication are engines around engines
    (`middleware.py`).

    Example:
        >>> from flip_reward.errors import NoLogprobsError
        >>> class Shouting:
        ...     model = identity = "shouting"
        ...
        ...     async def complete(self, request):
        ...         return Completion(request.messages[-1].content.upper())
        ...
        ...     async def logprobs(self, request):
        ...         raise NoLogprobsError("shouting")
        ...
        ...     async def aclose(self): ...
        >>> isinstance(Shouting(), Engine)
        True
    """

    @property
    def model(self) -> str:
        """The model's name, as records show it."""
        ...

    @property
    def identity(self) -> str:
        """Everything but the request that an answer depends on: endpoint family, model, fixed options.

        It is part of the cache key and of a run's manifest, so it never holds a secret.
        """
        ...

    async def complete(self, request: Request) -> Completion:
        """Answer one request.

        Raises:
            EngineError: This request could not be answered.
            NoLogprobsError: It asks for `top_logprobs`, which this engine cannot give.
            EngineUnavailableError: No request ever will.
        """
        ...

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        """Say how likely a continuation is.

        Raises:
            EngineError: This request could not be answered.
            NoLogprobsError: This engine cannot say that of any text.
            EngineUnavailableError: No request ever will be answered.
        """
        ...

    async def aclose(self) -> None:
        """Release what this engine holds for the running event loop. It may be used again afterwards."""
        ...


def check_is_engine(engine: Engine | None) -> Engine | None:
    """Return what is given as an engine; an OptionError where it is something else, such as the name of a model.

    Example:
        >>> check_is_engine("scripted")
        Traceback (most recent call last):
        flip_reward.errors.OptionError: an Engine is wanted, and not 'scripted'
        hint: load_engine('scripted') makes one
    """
    if engine is not None and not hasattr(engine, "complete"):
        made = repr(engine) if isinstance(engine, str) else "model"
        raise OptionError(
            f"an Engine is wanted, and not {reprlib.repr(engine)}", hint=f"load_engine({made}) makes one"
        )
    return engine


@runtime_checkable
class Classifier(Protocol):
    """An engine whose model has a trained head that rates responses."""

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Give the number of the model's head.

        Raises:
            EngineError: This request could not be answered, or the number is none.
            EngineUnavailableError: No request ever will be answered.
        """
        ...


def classify_with(engine: Engine, request: ClassifyRequest) -> Coroutine[object, object, Classification]:
    """Ask an engine for the number of its model's head.

    Raises:
        NoClassifierError: The engine has none.
    """
    if not isinstance(engine, Classifier):
        raise NoClassifierError(engine.model)
    return engine.classify(request)


def check_number(reward: Classification) -> Classification:
    """Return a trained model's reward unless its value is no number: that is no reward, neither a low nor a high one.

    Raises:
        RequestRefusedError: It is infinite or not a number.

    Example:
        >>> check_number(Classification(-3.5)).value
        -3.5
    """
    if not math.isfinite(reward.value):
        raise RequestRefusedError(
            f"the model's reward is no number, but {reward.value}",
            status=400,
            hint="a model in half precision may overflow: use --dtype float32 or bfloat16",
        )
    return reward


def find_adaptations(engine: Engine | None) -> tuple[str, ...]:
    """Return how an engine changes requests because its model refuses them; most engines know nothing of that."""
    adaptations: tuple[str, ...] = getattr(engine, "adaptations", ())
    return adaptations


def check_ending(answer: Answer) -> Answer:
    """Return an answer unless how it ended shows that it is none; where the ending says nothing, it passes.

    Raises:
        EngineServerError: The engine, or somebody in between, gave up on one of its replies.
        RequestRefusedError: A filter or the model's refusal ended every one; its status is 200, for it is an answer.

    Example:
        >>> check_ending(Completion("Apples, pe", "abort"))
        Traceback (most recent call last):
        flip_reward.errors.EngineServerError: the reply ended with 'abort'
    """
    if isinstance(answer, Completion):
        _check_endings(answer)
    return answer


_NO_ANSWERS = (Ending.FAILED, Ending.FILTERED)


def _check_endings(answer: Completion) -> None:
    if not answer.others and Ending.of(answer.finish_reason) not in _NO_ANSWERS:
        return
    replies = (answer, *answer.others)
    endings = [Ending.of(reply.finish_reason) for reply in replies]
    if Ending.FAILED in endings:
        failed = replies[endings.index(Ending.FAILED)]
        raise EngineServerError(failed.detail or f"the reply ended with {failed.finish_reason!r}")
    if endings.count(Ending.FILTERED) == len(endings):
        first = replies[0]
        said = first.detail or f"the reply was withheld: it ended with {first.finish_reason!r}"
        raise RequestRefusedError(said, status=200)


@runtime_checkable
class ServerEngine(Protocol):
    """An engine whose model is on a server. The same model may be reached at another address later."""

    base_url: str
    """The address, without credentials."""

    async def lists_model(self) -> bool:
        """Whether the server names the model among those it has. One that does not may take any name for its own."""
        ...


def disarm_request(request: AnyRequest, marks: Marks) -> AnyRequest:
    """Break up what a tokenizer would read as a mark of a chat template, in every text of a request.

    A request without marks is returned as it is.
    """
    if isinstance(request, Request):
        messages = disarm_messages(request.messages, marks)
        return request if messages is request.messages else replace(request, messages=messages)
    if isinstance(request, ClassifyRequest):
        messages, response = disarm_messages(request.messages, marks), marks.disarm(request.response)
        same = messages is request.messages and response is request.response
        return request if same else ClassifyRequest(messages, response)
    prefix, continuation = request.prefix, marks.disarm(request.continuation)
    prefix = marks.disarm(prefix) if isinstance(prefix, str) else disarm_messages(prefix, marks)
    unchanged = prefix is request.prefix and continuation is request.continuation
    return request if unchanged else LogprobRequest(prefix, continuation)


def disarm_messages(messages: tuple[Message, ...], marks: Marks) -> tuple[Message, ...]:
    """Break up the marks in messages.

    Example:
        >>> from flip_reward.core.chat.marks import KNOWN_MARKS
        >>> disarm_messages((Message("user", "Pear.<|im_end|>"),), KNOWN_MARKS)
        (Message(role='user', content='Pear.< |im_end|>'),)
    """
    disarmed = [marks.disarm(message.content) for message in messages]
    if all(text is message.content for text, message in zip(disarmed, messages, strict=True)):
        return messages
    return tuple(replace(message, content=text) for text, message in zip(disarmed, messages, strict=True))


async def complete_one_by_one(request: Request, complete: Callable[[Request], Awaitable[Completion]]) -> Completion:
    """Answer a request for several completions by one request each, for engines that draw one at a time.

    Completion i has the request's seed + i, where it has one. They are sent one after another, so the request counts
    as one in flight and nothing is left behind where it fails; completions drawn until then are lost.
    """
    if request.n == 1:
        return await complete(request)
    return join_completions([await complete(one) for one in split_request(request)])


def split_request(request: Request, *, start: int = 0) -> list[Request]:
    """Make one request for each completion from number `start` on; number i has the request's seed + i.

    Example:
        >>> request = Request((), Sampling(temperature=1.0, seed=7), n=3)
        >>> [one.sampling.seed for one in split_request(request, start=1)]
        [8, 9]
    """
    sampling = request.sampling
    return [
        replace(
            request,
            sampling=sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + number),
            n=1,
        )
        for number in range(start, request.n)
    ]


def join_completions(completions: Sequence[Completion]) -> Completion:
    """Make one answer of several completions of a request; their usage is added up.

    Example:
        >>> joined = join_completions([Completion("a", usage=Usage(5, 1)), Completion("b", usage=Usage(5, 2))])
        >>> joined.text, joined.others[0].text, joined.usage.completion_tokens
        ('a', 'b', 3)
    """
    usage = sum((completion.usage for completion in completions), Usage())
    first, *others = completions
    return replace(first, usage=usage, others=tuple(replace(other, usage=Usage()) for other in others))
