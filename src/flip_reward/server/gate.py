"""`Gate`: what every request passes before a route sees it, as plain ASGI middleware."""

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
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import ApiError, ClientGoneError, Problem
from flip_reward.server.scorer import describe
from flip_reward.server.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS = frozenset({"/", "/health", "/ready"})
"""These need no key: browsers and process monitors have none, and there is nothing to learn there."""
CLIENT_GONE = 499
"""The status in metrics and access log of a request whose client hung up."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

log = logging.getLogger("flip_reward.server")
access = logging.getLogger("flip_reward.server.access")


class Gate:
    """Names requests, asks for the key, answers failures, counts and logs."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics, routes: Sequence[Route]) -> None:
        self._app = app
        self._key_digest = None if settings.api_key is None else _digest(settings.api_key.encode())
        self._access_log = settings.access_log
        self._metrics = metrics
        self._routes = routes
        self._paths = frozenset(route.path for route in routes)
        self._ids = itertools.count()
        self._id_prefix = secrets.token_hex(6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        headers = dict(scope["headers"])
        own_id = _REQUEST_ID.fullmatch(headers.get(b"x-request-id", b""))
        request_id = own_id[0].decode() if own_id else f"{self._id_prefix}-{next(self._ids):x}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if self._key_digest is not None and scope["path"] not in OPEN_PATHS:
                self._check_key(headers.get(b"authorization", b""), self._key_digest)
            await self._app(scope, receive, send_named)
        except ApiError as error:
            await answer_failure(error, request_id, send_named)
        except ClientGoneError:
            status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the last place where anybody can answer
            log.error("request %s failed: %s", request_id, describe(error))  # noqa: TRY400 - texts in tracebacks
            internal = ApiError(500, Problem.INTERNAL, f"the server failed: {type(error).__name__}")
            await answer_failure(internal, request_id, send_named)
        path = self._name_path(scope["path"])
        seconds = time.perf_counter() - started
        self._metrics.answered(path, status, seconds)
        if self._access_log:
            access.info("%s %s %s %d %.1f ms", request_id, scope["method"], path, status, seconds * 1000)

    def _name_path(self, path: str) -> str:
        """Return the path of a route as it is documented: metrics keep each name forever."""
        if path in self._paths:
            return path
        return next((route.path_format for route in self._routes if route.path_regex.match(path)), "other")

    def _check_key(self, authorization: bytes, digest: bytes) -> None:
        scheme, _, credentials = authorization.partition(b" ")
        given = credentials.strip()
        if scheme.lower() == b"basic":
            # What clients send for http://anybody:KEY@host/, for trainers that can be given only an address.
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                given = b""
        elif scheme.lower() != b"bearer":
            given = b""
        # Digests have one length, so not even the length of the key can be measured.
        if not hmac.compare_digest(_digest(given), digest) or not given:
            raise ApiError(401, Problem.UNAUTHORIZED, "a key is needed: Authorization: Bearer KEY", close=True)


async def answer_failure(error: ApiError, request_id: str, send: Send) -> None:
    """Send the answer of a failure."""
    body = error.body(request_id)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
