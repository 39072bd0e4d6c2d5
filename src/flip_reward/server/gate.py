"""`Gate`: what every request passes before a route sees it."""

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
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, TypeAlias

from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import ApiError, ClientGoneError, Problem
from flip_reward.server.scorer import Admission, describe
from flip_reward.server.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

OPEN_PATHS = frozenset({"/", "/health", "/ready"})
"""These need no key: browsers and process monitors have none, and there is nothing to learn there."""
CLIENT_GONE = 499
"""The status in metrics and access log of a request whose client hung up."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

log = logging.getLogger("flip_reward.server")
access = logging.getLogger("flip_reward.server.access")


class Gate:
    """Names requests, asks for the key, answers failures, counts and logs."""

    def __init__(
        self,
        settings: ServerSettings,
        metrics: Metrics,
        admission: Admission,
        routes: Sequence[Route],
        exchanges: Mapping[str, ASGIApp],
    ) -> None:
        self.admission = admission
        self._app: ASGIApp
        self._exchanges = exchanges  # what is asked all the time needs no search among the routes
        self._key_digest = None if settings.api_key is None else _digest(settings.api_key.encode())
        self._access_log = settings.access_log
        self._metrics = metrics
        self._routes = routes
        self._paths = frozenset(route.path for route in routes)
        self._ids = itertools.count()
        self._id_prefix = secrets.token_hex(6)

    def stand_before(self, app: ASGIApp) -> Self:
        """Become the middleware of an application."""
        self._app = app
        return self

    def turn_away(self, path: str, asked: Headers, standing: Headers) -> bytes | None:
        """Return the whole answer to a POST while there is no room; None leaves it to the application.

        Under overload most requests are refused, and the time that it takes is taken from those that are scored.

        Args:
            path: Of the request.
            asked: The headers of the request.
            standing: The headers that every answer has.
        """
        if path not in self._exchanges:
            return None
        headers = dict(asked)
        try:
            self._check_key(headers)
        except ApiError:
            return None
        request_id = self._name_request(headers)
        refusal = self.admission.refusal()
        body = refusal.body(request_id)
        answered = (*standing, *_failure_headers(refusal, body), (b"x-request-id", request_id.encode()))
        lines = [b"%s: %s\r\n" % line for line in answered]
        self._note(request_id, "POST", path, refusal.status, 0.0)
        return b"".join((b"HTTP/1.1 429 Too Many Requests\r\n", *lines, b"\r\n", body))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        headers = dict(scope["headers"])
        request_id = self._name_request(headers)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if scope["path"] not in OPEN_PATHS:
                self._check_key(headers)
            exchange = self._exchanges.get(scope["path"]) if scope["method"] == "POST" else None
            await (exchange or self._app)(scope, receive, send_named)
        except ApiError as error:
            await _answer_failure(error, request_id, send_named)
        except ClientGoneError:
            status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the last place where anybody can answer
            log.error("request %s failed: %s", request_id, describe(error))  # noqa: TRY400 - texts in tracebacks
            internal = ApiError(500, Problem.INTERNAL, f"the server failed: {type(error).__name__}")
            await _answer_failure(internal, request_id, send_named)
        path = self._name_path(scope["path"])
        self._note(request_id, scope["method"], path, status, time.perf_counter() - started)

    def _name_request(self, headers: Mapping[bytes, bytes]) -> str:
        own_id = _REQUEST_ID.fullmatch(headers.get(b"x-request-id", b""))
        return own_id[0].decode() if own_id else f"{self._id_prefix}-{next(self._ids):x}"

    def _note(self, request_id: str, method: str, path: str, status: int, seconds: float) -> None:
        self._metrics.answered(path, status, seconds)
        if self._access_log:
            access.info("%s %s %s %d %.1f ms", request_id, method, path, status, seconds * 1000)

    def _name_path(self, path: str) -> str:
        """Return the path of a route as it is documented: metrics keep each name forever."""
        if path in self._paths:
            return path
        return next((route.path_format for route in self._routes if route.path_regex.match(path)), "other")

    def _check_key(self, headers: Mapping[bytes, bytes]) -> None:
        if self._key_digest is None:
            return
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
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
        if not hmac.compare_digest(_digest(given), self._key_digest) or not given:
            raise ApiError(401, Problem.UNAUTHORIZED, "a key is needed: Authorization: Bearer KEY", close=True)


async def _answer_failure(error: ApiError, request_id: str, send: Send) -> None:
    body = error.body(request_id)
    headers = _failure_headers(error, body)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _failure_headers(error: ApiError, body: bytes) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return headers + [(name.encode(), value.encode()) for name, value in error.headers.items()]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
