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
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flip_reward.server.admission import Admission
from flip_reward.server.metrics import Metrics
from flip_reward.server.problems import CLIENT_GONE, ApiError, Problem, body_too_large
from flip_reward.server.scorer import describe
from flip_reward.server.settings import ServerSettings

OPEN_PATHS = frozenset({"/health", "/ready"})
"""What needs no key: whoever watches over processes has none, and nothing can be learned there."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_READ = (b"content-length", b"x-request-id", b"authorization", b"content-type")

log = logging.getLogger("flip_reward.server")
access = logging.getLogger("flip_reward.server.access")


class Gate:
    """Names requests, asks for the key, turns away what is too large or too much, counts, and answers failures.

    Args:
        app: Answers what gets through.
        settings: What is asked for, and what is too large.
        admission: Knows whether there is room.
        metrics: Counts.
        paths: The routes, as the metrics name them.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, admission: Admission, metrics: Metrics, paths: Collection[str]
    ) -> None:
        self._app = app
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
        given = headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"{self._id_prefix}-{next(self._ids):x}".encode()
        scope["state"]["request_id"] = request_id.decode()
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, receive, send_named)
        except ApiError as error:
            await _answer(error, request_id.decode(), send_named)
        except Exception as error:  # noqa: BLE001 - the last place where anybody can answer
            log.error("request %s failed: %s", request_id.decode(), describe(error))  # noqa: TRY400
            if not status:
                internal = ApiError(500, Problem.INTERNAL, f"the server failed: {type(error).__name__}")
                await _answer(internal, request_id.decode(), send_named)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            seconds = time.perf_counter() - started
            self._metrics.answered(path, status or CLIENT_GONE, seconds)
            if self._access_log:
                access.info(
                    "%s %s %s %d %.1f ms",
                    request_id.decode(),
                    scope["method"],
                    path,
                    status or CLIENT_GONE,
                    seconds * 1000,
                )

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if self._key_digest is not None and scope["path"] not in OPEN_PATHS:
            self._check_key(headers.get(b"authorization", b""), self._key_digest)
        if scope["method"] != "POST" or scope["path"] not in self._paths:
            return
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

    @staticmethod
    def _check_key(authorization: bytes, key_digest: bytes) -> None:
        scheme, _, credentials = authorization.partition(b" ")
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
        if not hmac.compare_digest(_digest(given), key_digest) or not given:
            raise ApiError(401, Problem.UNAUTHORIZED, "a key is needed: Authorization: Bearer KEY", close=True)


async def _answer(error: ApiError, request_id: str, send: Send) -> None:
    body = error.body(request_id)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
