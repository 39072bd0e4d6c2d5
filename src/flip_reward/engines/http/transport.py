"""`HttpSession`: one request to one server by aiohttp, and one typed error for everything that can go wrong.

This module imports aiohttp, which takes a third of a second; `server` imports it at the first request.
"""

from __future__ import annotations

import asyncio
import io
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from flip_reward.errors import (
    CannotConnectError,
    EngineConnectionError,
    EngineError,
    EngineTimeoutError,
    MalformedCompletionError,
)

CONNECT_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 4.0  # below the 5 s of uvicorn, which would otherwise hang up just as the next request leaves
MAX_RESPONSE_BYTES = 32 * 2**20
MAX_BYTES_AT_ONCE = 2**20  # aiohttp warns of longer bodies, which would block the event loop when sent in one piece


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The status, the headers, whose names are looked up without regard to case, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpSession:
    """Sends requests to one server, with one pool of connections for each running event loop."""

    def __init__(self, address: str, headers: Mapping[str, str], timeout_seconds: float) -> None:
        self._address = address
        self._headers = dict(headers)
        self._timeout_seconds = timeout_seconds
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    async def send(self, method: str, url: str, body: bytes | None = None) -> HttpResponse:
        """Send one request once, and return the response whatever its status."""
        data = io.BytesIO(body) if body is not None and len(body) > MAX_BYTES_AT_ONCE else body
        pool = self._pools.get(asyncio.get_running_loop()) or await self._open_pool()
        try:
            async with pool.session.request(method, url, data=data, allow_redirects=False) as response:
                return HttpResponse(response.status, response.headers, await _read(response))
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            failure = self._explain(error)
        # Outside the except clause: aiohttp's own errors hold the request's headers, and so the API key.
        raise failure

    def _explain(self, error: Exception) -> EngineError:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return CannotConnectError(f"{self._address} did not accept a connection within {CONNECT_SECONDS:g} s")
        if isinstance(error, TimeoutError):
            return EngineTimeoutError(f"{self._address} did not answer within {self._timeout_seconds:g} s")
        if isinstance(error, (aiohttp.ClientConnectorDNSError, UnicodeError)):
            return CannotConnectError(f"{self._address} cannot be found: the host name does not resolve")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return CannotConnectError(f"the proxy in front of {self._address} answered {error.status}")
        if isinstance(error, aiohttp.ClientConnectorError):
            behind_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
            peer = f"the proxy in front of {self._address}" if behind_proxy else self._address
            if isinstance(error.os_error, ConnectionRefusedError):
                return CannotConnectError(f"{peer} refuses connections")
            return CannotConnectError(f"{peer} cannot be reached: {error.os_error}")
        if isinstance(error, aiohttp.ClientPayloadError):
            return MalformedCompletionError(f"{self._address} closed the connection in the middle of its answer")
        if isinstance(error, aiohttp.ClientResponseError):
            return MalformedCompletionError(f"{self._address} answered with something that is not HTTP")
        return EngineConnectionError(f"{self._address} closed the connection before it answered")

    async def _open_pool(self) -> _Pool:
        for loop in [loop for loop in self._pools if loop.is_closed()]:
            del self._pools[loop]
        # An event loop that ends closes the generators that are still open, and so does the last reference to one:
        # without `aclose` no connection is left behind either. `_open_session` does not wait before its yield, so no
        # two tasks get here at once.
        generator = _open_session(self._address, self._headers, self._timeout_seconds)
        pool = self._pools[asyncio.get_running_loop()] = _Pool(await anext(generator), generator)
        return pool

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.generator.aclose()


@dataclass(frozen=True, slots=True)
class _Pool:
    session: aiohttp.ClientSession
    generator: AsyncGenerator[aiohttp.ClientSession]


async def _open_session(
    address: str, headers: Mapping[str, str], timeout_seconds: float
) -> AsyncGenerator[aiohttp.ClientSession]:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        proxy=_find_proxy(URL(address)),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS),
    )
    try:
        yield session
    finally:
        await session.close()


def _find_proxy(url: URL) -> URL | None:
    """Look for a proxy in the environment once; aiohttp would do so for every request."""
    host = url.host or ""
    proxy = urllib.request.getproxies().get(url.scheme)
    on_this_machine = host in ("localhost", "::1") or host.startswith("127.")
    if proxy is None or on_this_machine or urllib.request.proxy_bypass(host):
        return None
    return URL(proxy)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read a body up to a limit, which aiohttp's own `read` does not have."""
    chunks: list[bytes] = []
    size = 0
    while not response.content.at_eof():
        chunk = await response.content.readany()
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES:
            response.close()
            raise MalformedCompletionError(f"the answer is longer than {MAX_RESPONSE_BYTES // 2**20} MiB")
    return b"".join(chunks)
