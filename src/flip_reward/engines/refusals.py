"""What a server's refusal means: this request, or all of them.

A 400 or 403 may be about the text (a filter), or about a key, a quota or a model that was lost in the middle of a
run, in words that differ from server to server. So a harmless request of the same shape is sent after it. Only where
that is answered does the refusal concern the text. A server may have a reason of its own to refuse the harmless one,
such as that it is too short: where its words are others, a request that it has answered before is sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeGuard

from flip_reward.core.conversation import Message
from flip_reward.engines.base import AnyRequest, ClassifyRequest, LogprobRequest, Request
from flip_reward.errors import EngineError, EngineUnavailableError, RequestRefusedError

PROBES = 5
"""A server that refuses this many harmless requests in a row refuses everything, and does not just err at times."""
_HARMLESS = "Say yes."


class RefusalInquiry:
    """Finds out what the refusals of one event loop mean. Those that come together share an answer."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._found: dict[object, tuple[float, bool]] = {}
        """By harmless request: when it was last sent, and whether it was answered."""

    async def find_meaning(
        self,
        refusal: RequestRefusedError,
        request: AnyRequest,
        call: Callable[[AnyRequest], Awaitable[object]],
        last_answered: Callable[[], Request | LogprobRequest | ClassifyRequest | None],
    ) -> EngineError:
        """Return the error that a server's refusal stands for; `last_answered` finds the last request that got none.

        That is the refusal itself where it concerns this request, an `EngineUnavailableError` where everything is
        refused, and otherwise the failure that left it open, after which the request may be sent again.
        """
        harmless = make_harmless(request)
        refused_at = time.monotonic()
        async with self._lock:
            sent_at, answered = self._found.get(harmless, (0.0, False))
            if sent_at <= refused_at:
                sent_at = time.monotonic()
                try:
                    refused = await _find_refusal([harmless] * PROBES, call)
                    known = last_answered()  # others were in flight meanwhile
                    if refused and str(refused) != str(refusal) and _is_alike(known, harmless):
                        refused = await _find_refusal([known], call)
                except EngineError as failure:
                    return failure
                answered = refused is None
                self._found[harmless] = sent_at, answered
        return refusal if answered else _refuses_everything(refusal)


async def _find_refusal(
    probes: Sequence[AnyRequest], call: Callable[[AnyRequest], Awaitable[object]]
) -> RequestRefusedError | None:
    """Return the last refusal where a server refuses every one of these; None as soon as one is answered."""
    refusal = None
    for probe in probes:
        try:
            await call(probe)
        except RequestRefusedError as error:
            if not error.by_server:
                return None
            refusal = error
        else:
            return None
    return refusal


def _is_alike(
    request: Request | LogprobRequest | ClassifyRequest | None, harmless: AnyRequest
) -> TypeGuard[AnyRequest]:
    """Whether a request has the shape of a harmless one."""
    return isinstance(request, type(harmless)) and make_harmless(request) == harmless


def _refuses_everything(refusal: RequestRefusedError) -> EngineUnavailableError:
    unavailable = EngineUnavailableError(
        f"every request is refused, also harmless ones: {refusal}",
        hint=refusal.hint
        or "it may be the key, the quota, the model or an option; once mended, the same command goes on",
    )
    unavailable.__cause__ = refusal
    return unavailable


def make_harmless(request: AnyRequest) -> AnyRequest:
    """Return a request with the same roles and options, and a text that no server has a reason to refuse.

    Example:
        >>> make_harmless(Request((Message("system", "Infer."), Message("user", "...")))).messages
        (Message(role='system', content='Say yes.'), Message(role='user', content='Say yes.'))
    """
    if isinstance(request, LogprobRequest):
        prefix = request.prefix
        # A prefix that ends with a line break has no token in common with what follows.
        return replace(
            request, prefix=f"{_HARMLESS}\n" if isinstance(prefix, str) else _say(prefix), continuation="Yes."
        )
    if isinstance(request, ClassifyRequest):
        return ClassifyRequest(_say(request.messages), "Yes.")
    return replace(request, messages=_say(request.messages), sampling=replace(request.sampling, seed=None), n=1)


def _say(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple([Message(message.role, _HARMLESS) for message in messages])
