"""`Gate`: what every request passes before a route sees it, as plain ASGI."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flip_reward.server.exchange import Answer
from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import ApiError, Problem, body_too_large
from flip_reward.server.scorer import Admission, describe
from flip_reward.server.settings import ServerSettings

OPEN_PATHS = frozenset({"/health", "/ready"})
"""What needs no key: whoever watches over processes has none, and nothing can be learned there."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_READ = (b"content-length", b"x-request-id", b"authorization", b"content-type")

log = logging.getLogger("flip_reward.server")
access = logging.getLogger("flip_reward.server.access")


Handler: TypeAlias = Callable[[Receive, str], Awaitable[Answer]]
"""Answers a request whose headers are in order: it reads the body, and is told the request's id."""


class Gate:
    """Names requests, asks for the key, turns away what is too large or too much, counts, and answers failures.

    Args:
        app: Answers what has no handler.
        handlers: Answer the routes that score, without the detour through a framework, which would cost as much as
            scoring a response.
        settings: What is asked for, and what is too large.
        admission: Knows whether there is room.
        metrics: Counts.
        paths: All routes, as the metrics name them.
    """

    def __init__(
        self,
        app: ASGIApp,
        handlers: Mapping[str, Handler],
        settings: ServerSettings,
        admission: Admission,
        metrics: Metrics,
        paths: Collection[str],
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._max_body_bytes = settings.limits.max_body_bytes
        self._key_digest = None if settings.api_key is None else _digest(settings.api_key.encode())
        self._admission = admission
        self._metrics = metrics
        self._paths = frozenset(paths)
        self._access_log = settings.access_log
        self._ids = itertools.count()
        self._id_prefix = secrets.token_hex(6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        given = headers.get(b"x-request-id")
        named = given is not None and _REQUEST_ID.fullmatch(given)
        request_id = given.decode() if given and named else f"{self._id_prefix}-{next(self._ids):x}"
        handler = self._handlers.get(scope["path"]) if scope["method"] == "POST" else None
        try:
            self._check_key(scope, headers)
            if handler is None:
                status = await self._pass_on(scope, receive, send, request_id)
            else:
                self._check_body(headers)
                answer = await handler(receive, request_id)
                status = answer.status
                await _send(send, answer, request_id)
        except ApiError as error:
            status = error.status
            await _send(send, Answer(error.body(request_id), status, tuple(error.headers.items())), request_id)
        except Exception as error:  # noqa: BLE001 - the last place where anybody can answer
            status = 500
            log.error("request %s failed: %s", request_id, describe(error))  # noqa: TRY400
            internal = ApiError(500, Problem.INTERNAL, f"the server failed: {type(error).__name__}")
            await _send(send, Answer(internal.body(request_id), 500), request_id)
        path = scope["path"] if scope["path"] in self._paths else "other"
        seconds = time.perf_counter() - started
        self._metrics.answered(path, status, seconds)
        if self._access_log:
            access.info("%s %s %s %d %.1f ms", request_id, scope["method"], path, status, seconds * 1000)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> int:
        """Let the application answer; return the status."""
        status = 0
        scope["state"]["request_id"] = request_id

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, receive, send_named)
        return status

    def _check_body(self, headers: Mapping[bytes, bytes]) -> None:
        if not _JSON.match(headers.get(b"content-type", b"")):
            raise ApiError(
                415,
                Problem.UNSUPPORTED_MEDIA_TYPE,
                "the body has to be JSON, with Content-Type: application/json",
                close=True,
            )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise body_too_large(self._max_body_bytes)
        if self._admission.full:
            raise self._admission.refusal()

    def _check_key(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        if self._key_digest is None or scope["path"] in OPEN_PATHS:
            return
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        given = credentials.strip()
        if scheme.lower() == b"basic":
            # What clients send for http://anybody:KEY@host/: some trainers can be given nothing but an address.
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                given = b""
        elif scheme.lower() != b"bearer":
            given = b""
        # Digests have one length, so not even that of the key can be measured.
        if not hmac.compare_digest(_digest(given), self._key_digest) or not given:
            raise ApiError(401, Problem.UNAUTHORIZED, "a key is needed: Authorization: Bearer KEY", close=True)


async def _send(send: Send, answer: Answer, request_id: str) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", request_id.encode()),
    ]
    headers += [(name.encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
