"""`BatchEngine`: answers from the replies of batches, and notes what they have not answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flip_reward.engines.base import (
    ClassifyRequest,
    Completion,
    LogprobRequest,
    Request,
    TokenLogprobs,
    join_completions,
    split_request,
)
from flip_reward.engines.batch.lines import BatchLine, ReplyLine, make_key
from flip_reward.engines.http.engine import Draft, HttpEngine, may_refuse_n
from flip_reward.engines.http.wire import HttpResponse
from flip_reward.errors import (
    ContextTooLongError,
    EngineError,
    EngineServerError,
    EngineUnavailableError,
    RequestDroppedError,
    RequestRefusedError,
)

_LIVE_TRIES = 3
_REFUSALS = frozenset({200, 400, 422})
"""Statuses of refusals that concern the request alone; a key or a model that is lost says nothing of it."""


class Replies(Protocol):
    """Where a `BatchEngine` finds replies, and notes requests."""

    @property
    def changes(self) -> Sequence[str]:
        """The fields that the model wants otherwise (`Dialect`), as far as earlier sessions found out."""
        ...

    @property
    def most_bytes(self) -> int:
        """How long a request may be, as a line of a batch."""
        ...

    @property
    def answered(self) -> bool:
        """Whether any request was ever answered with a completion."""
        ...

    def find(self, key: str) -> ReplyLine | None:
        """Return the last reply to a request."""
        ...

    def want(self, line: BatchLine, failure: str | None = None) -> None:
        """Note a request that is not answered, or whose last reply was a failure that may pass."""
        ...

    def keep(self, reply: ReplyLine) -> None:
        """Keep the reply to a request that was asked right away."""
        ...

    def note_changes(self, changes: Sequence[str]) -> None:
        """Keep what the model wants otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A request in the form in which it has to be asked, and why its last reply does not count."""

    draft: Draft
    key: str
    failure: str | None = None


class BatchEngine:
    """Answers as its `HttpEngine` does, from replies that are there; else raises a `RequestDroppedError`.

    Model and identity are those of the live engine, so a run may go on by the one or the other.

    Args:
        http: What requests would be sent to.
        replies: What is answered.
        live: Ask the first request right away, before any other is noted: so it is known in which form the model
            takes requests.
        retry_refused: Ask again what was refused.
    """

    def __init__(
        self, http: HttpEngine, replies: Replies, *, live: bool = False, retry_refused: bool = False
    ) -> None:
        self._http = http
        self._replies = replies
        self._live_tries = _LIVE_TRIES if live else 0
        self._retry_refused = retry_refused
        self._lock = asyncio.Lock()
        self.model, self.base_url = http.model, http.base_url
        http.dialect.restore(replies.changes)

    @property
    def identity(self) -> str:
        """That of the live engine."""
        return self._http.identity

    @property
    def adaptations(self) -> tuple[str, ...]:
        """How requests differ from what was asked for."""
        return self._http.adaptations

    async def lists_model(self) -> bool:
        """Ask the server whether it has the model."""
        return await self._http.lists_model()

    async def complete(self, request: Request) -> Completion:
        """Answer a request from the replies.

        Raises:
            RequestDroppedError: It is not answered yet, and is noted.
            EngineError: It never will be, as for the live engine.
        """
        request = self._http.disarm(request)
        if self._live_tries:
            async with self._lock:  # the others wait for what the first one finds out
                if self._live_tries:
                    return await self._complete(request)
        return await self._complete(request)

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:  # noqa: ARG002
        """Refuse: batches are of completions."""
        raise EngineUnavailableError("a batch cannot say how likely a text is", hint="leave out --batch")

    async def classify(self, request: ClassifyRequest) -> None:  # noqa: ARG002
        """Refuse: batches are of completions."""
        raise EngineUnavailableError("a batch cannot ask a trained reward model", hint="leave out --batch")

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._http.aclose()

    async def _complete(self, request: Request) -> Completion:
        """Answer a request as `HttpEngine` does; the completions that are missing are noted all at once."""
        if request.n == 1:
            return await self._answer(request)
        completions: list[Completion] = []
        if request.sampling.temperature:
            try:
                first = await self._answer(request)
                completions = [first, *first.others]
            except (RequestRefusedError, EngineServerError) as error:
                if not may_refuse_n(error):
                    raise
        dropped = None
        for one in split_request(request, start=len(completions)):
            try:
                completions.append(await self._answer(one))
            except RequestDroppedError as error:
                dropped = error
        if dropped is not None:
            raise dropped
        return join_completions(completions)

    async def _answer(self, request: Request) -> Completion:
        found = self._read(self._http.draft(request))
        if isinstance(found, _Unanswered) and found.draft.changes:
            earlier = self._read(self._http.draft(request, ()))  # asked before it was known what the model wants
            found = earlier if isinstance(earlier, Completion) else found
        if isinstance(found, _Unanswered) and self._live_tries:
            found = await self._ask(found)
        if isinstance(found, Completion):
            return found
        line = BatchLine(found.key, found.draft.body)
        if len(line) > self._replies.most_bytes:
            limit = f"{self._replies.most_bytes / 10**6:g} MB"
            raise ContextTooLongError(f"a request of {len(line) / 10**6:.1f} MB, and a batch takes {limit}")
        self._replies.want(line, found.failure)
        raise RequestDroppedError("not answered yet: it is asked by a batch")

    def _read(self, draft: Draft) -> Completion | _Unanswered:
        """Follow a request through the forms in which it was asked, to its answer or to where there is none."""
        while True:
            key = make_key(draft.body, draft.request)
            reply = self._replies.find(key)
            if reply is None or reply.status is None:
                return _Unanswered(draft, key, reply.error if reply else None)
            answer = self._decode(HttpResponse(reply.status, {}, reply.body), draft)
            if isinstance(answer, Completion):
                return answer
            if isinstance(answer, EngineError):
                if self._settles(answer, draft.request):
                    raise answer
                failure = str(answer).removeprefix(f"{self.base_url} ")  # where it was asked is no news
                return _Unanswered(draft, key, failure)
            draft = answer

    def _decode(self, response: HttpResponse, draft: Draft) -> Completion | Draft | EngineError:
        """Read a response: the answer, the form in which the request is to be asked, or what went wrong."""
        try:
            completion = self._http.decode(response, draft)
        except EngineError as failure:
            return failure
        if completion is not None:
            if draft.changes:
                self._replies.note_changes([change.field for change in self._http.dialect.changes])
            return completion
        error = self._http.server.read_error(response)
        return self._http.redraft(draft, response, error) or error

    def _settles(self, error: EngineError, request: Request) -> bool:
        """Whether a failure stays what it is, however often the request is asked."""
        if isinstance(error, ContextTooLongError) or (request.n > 1 and may_refuse_n(error)):
            return True
        if self._retry_refused or not isinstance(error, RequestRefusedError):
            return False
        # As long as nothing was answered, a refusal may concern everything: an option, the account.
        return error.status in _REFUSALS and (self._replies.answered or not error.by_server)

    async def _ask(self, unanswered: _Unanswered) -> Completion | _Unanswered:
        """Ask a request right away; what cannot be answered so is left to a batch, unless nothing ever will be."""
        self._live_tries -= 1
        draft, key = unanswered.draft, unanswered.key
        while True:
            try:
                response = await self._http.send(draft)
            except EngineError as failure:
                answer: Completion | Draft | EngineError = failure
            else:
                answer = self._decode(response, draft)
                if not isinstance(answer, EngineError):
                    self._replies.keep(ReplyLine(key, response.status, response.body))
            if isinstance(answer, Completion):
                self._live_tries = 0
                return answer
            if isinstance(answer, EngineError):
                error = await self._http.server.explain(answer, endpoint="chat completions")
                if isinstance(error, EngineUnavailableError):
                    raise error from answer
                return _Unanswered(draft, key, str(error))
            draft = answer
            key = make_key(draft.body, draft.request)
