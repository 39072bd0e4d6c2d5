"""`HttpSession`: one request to one server by aiohttp, and one typed error for everything that can go wrong.

This module imports aiohttp, which takes a third of a second; `server` imports it at the first request.
"""

from __future__ import annotations

import asyncio
import io
import os
import ssl
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import aiohttp
from yarl import URL

from flip_reward.data.files import storage_error
from flip_reward.engines.http.proxy import PROXY_HINT, PROXY_KEY_HINT, Proxy, find_proxy
from flip_reward.engines.http.tls import explain_certificate, make_context, speaks_no_tls
from flip_reward.engines.http.wire import HttpResponse
from flip_reward.errors import (
    CannotConnectError,
    EngineConnectionError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    MalformedCompletionError,
)

CONNECT_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 4.0  # below the 5 s of uvicorn, which would otherwise hang up just as the next request leaves
MAX_RESPONSE_BYTES = 32 * 2**20
SLOWEST_BYTES_PER_SECOND = 50_000
"""A file may take as long as this to be sent, and the time of an answer besides."""
_REDIRECTS, _MOST_REDIRECTS = frozenset({301, 302, 303, 307, 308}), 5
MAX_BYTES_AT_ONCE = 2**20  # aiohttp warns of longer bodies, which would block the event loop when sent in one piece


class HttpSession:
    """Sends requests to one server, with one pool of connections for each running event loop."""

    def __init__(self, address: str, headers: Mapping[str, str], timeout_seconds: float) -> None:
        self._address = address
        self._headers = dict(headers)
        self._timeout_seconds = timeout_seconds
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}
        self.proxy: Proxy | None = None
        """What stands before the server, known from the first request on."""

    # Not `async`: that would be one more coroutine on the way of every reward.
    def send(self, method: str, url: str, body: bytes | None = None) -> Coroutine[object, object, HttpResponse]:
        """Send one request once, and return the response whatever its status."""
        data = io.BytesIO(body) if body is not None and len(body) > MAX_BYTES_AT_ONCE else body
        return self._request(method, url, _read, data=data)

    async def upload(self, url: str, path: Path, fields: Mapping[str, str]) -> HttpResponse:
        """Send a file once, as the field "file" of a form with others before it."""
        with _open(path, "rb") as file:
            form = aiohttp.FormData(fields)
            form.add_field("file", file, filename=path.name, content_type="application/jsonl")
            data = form()
            total = self._timeout_seconds + os.fstat(file.fileno()).st_size / SLOWEST_BYTES_PER_SECOND
            return await self._request(
                "POST",
                url,
                _read,
                data=data,
                headers={"Content-Type": data.content_type},
                timeout=aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_SECONDS),
            )

    async def download(self, url: str, path: Path) -> HttpResponse:
        """Get a file once. It lies at the path if the status is below 300; else the response's body says why not.

        Redirects are followed, such as to a storage; another server sees neither the key nor other headers.
        """
        target = URL(url)
        response = await self._download(target, path)
        for _ in range(_MOST_REDIRECTS):
            moved = _find_target(target, response)
            if moved is None:
                break
            target = moved
            if target.origin() == URL(self._address).origin():
                response = await self._download(target, path)
                continue
            stranger = HttpSession(str(target.origin()), {}, self._timeout_seconds)
            try:
                response = await stranger._download(target, path)
            finally:
                await stranger.aclose()
        return response

    async def _download(self, url: URL, path: Path) -> HttpResponse:
        async def read(response: aiohttp.ClientResponse) -> bytes:
            if response.status >= 300:
                return await _read(response)
            with _open(path, "wb") as file:
                async for chunk in response.content.iter_any():
                    _write(file, chunk, path)
            return b""

        timeout = aiohttp.ClientTimeout(sock_read=self._timeout_seconds, sock_connect=CONNECT_SECONDS)
        return await self._request("GET", url, read, timeout=timeout)

    async def _request(
        self,
        method: str,
        url: str | URL,
        read: Callable[[aiohttp.ClientResponse], Coroutine[object, object, bytes]],
        **options: Any,  # noqa: ANN401 - those of aiohttp
    ) -> HttpResponse:
        pool = self._pools.get(asyncio.get_running_loop()) or await self._open_pool()
        pool.in_flight += 1
        try:
            async with pool.session.request(method, url, allow_redirects=False, **options) as response:
                return HttpResponse(response.status, response.headers, await read(response))
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            failure = self._explain(error)
        finally:
            pool.in_flight -= 1
            if pool.closing:
                await pool.close()
        # Outside the except clause: aiohttp's own errors hold the request's headers, and so the API key.
        raise failure

    def _explain(self, error: Exception) -> EngineError:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return self._cannot_connect(
                f"{self._first_peer} did not accept a connection within {CONNECT_SECONDS:g} s"
            )
        if isinstance(error, TimeoutError):
            return EngineTimeoutError(f"{self._address} did not answer within {self._timeout_seconds:g} s")
        if isinstance(error, (aiohttp.ClientConnectorDNSError, UnicodeError)):
            return self._cannot_connect(f"{self._first_peer} cannot be found: the host name does not resolve")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return self._explain_proxy(error)
        if isinstance(error, ssl.SSLError):
            return self._explain_tls(error)
        if isinstance(error, aiohttp.ClientConnectorError):
            peer = self._first_peer
            if isinstance(error.os_error, ConnectionRefusedError):
                return self._cannot_connect(f"{peer} refuses connections")
            return self._cannot_connect(
                f"{peer} cannot be reached: {str(error.os_error) or 'it closed the connection'}"
            )
        if isinstance(error, aiohttp.ClientPayloadError):
            return MalformedCompletionError(f"{self._address} closed the connection in the middle of its answer")
        hint = "if it speaks https, write https:// in --base-url" if self._address.startswith("http:") else None
        if isinstance(error, aiohttp.ClientResponseError):
            return MalformedCompletionError(f"{self._address} answered with something that is not HTTP", hint=hint)
        return EngineConnectionError(f"{self._address} closed the connection before it answered", hint=hint)

    def _cannot_connect(self, said: str) -> CannotConnectError:
        return CannotConnectError(said, hint=None if self.proxy is None else PROXY_HINT)

    @property
    def _first_peer(self) -> str:
        """What connections are made to: the server, or the proxy before it."""
        return self._address if self.proxy is None else f"the proxy {self.proxy.name} in front of {self._address}"

    def _explain_proxy(self, error: aiohttp.ClientHttpProxyError) -> EngineError:
        said = f"{self._first_peer} answered {error.status} instead of connecting to it"
        if error.status >= 500 or error.status in (408, 425, 429):
            return self._cannot_connect(said)
        return EngineUnavailableError(said, hint=PROXY_KEY_HINT if error.status == 407 else PROXY_HINT)

    def _explain_tls(self, error: ssl.SSLError) -> EngineError:
        cause = next((one for one in error.args if isinstance(one, ssl.SSLError)), error)  # aiohttp wraps OpenSSL's
        peer = self._address
        if self.proxy is not None and getattr(error, "host", None) == URL(self.proxy.address).host:
            peer = self._first_peer
        if isinstance(cause, ssl.SSLCertVerificationError):
            return explain_certificate(peer, cause)
        if speaks_no_tls(cause):
            where = "--base-url" if peer == self._address else "the variable that names the proxy"
            return EngineUnavailableError(f"{peer} speaks http, not https", hint=f"write http:// in {where}")
        return self._cannot_connect(f"{peer} cannot be reached: TLS failed with {cause.reason or cause}")

    async def _open_pool(self) -> _Pool:
        for closed in [loop for loop in self._pools if loop.is_closed()]:
            self._pools.pop(closed).unclosed.detach()
        # An event loop that ends closes the generators that are still open, and so does the last reference to one:
        # without `aclose` no connection is left behind either. `_open_session` does not wait before its yield, so no
        # two tasks get here at once.
        self.proxy = find_proxy(self._address)
        addresses = [self._address, *([self.proxy.address] if self.proxy else [])]
        context = make_context() if any(one.startswith("https:") for one in addresses) else None
        generator = _open_session(self._headers, self._timeout_seconds, self.proxy, context)
        loop = asyncio.get_running_loop()
        unclosed = weakref.finalize(self, _close_behind, loop, generator)
        unclosed.atexit = False
        pool = self._pools[loop] = _Pool(await anext(generator), generator, unclosed)
        return pool

    async def aclose(self) -> None:
        """Close the connections of the running event loop, those that are in use when they have their answers."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            pool.closing = True
            await pool.close()


@dataclass(slots=True)
class _Pool:
    session: aiohttp.ClientSession
    generator: AsyncGenerator[aiohttp.ClientSession]
    unclosed: weakref.finalize[[asyncio.AbstractEventLoop, AsyncGenerator[aiohttp.ClientSession]], HttpSession]
    """Closes it where the session is collected first: what is collected with it cannot close itself any more."""
    in_flight: int = 0
    closing: bool = False

    async def close(self) -> None:
        if self.in_flight == 0:
            self.unclosed.detach()
            await self.generator.aclose()


def _close_behind(loop: asyncio.AbstractEventLoop, generator: AsyncGenerator[aiohttp.ClientSession]) -> None:
    if loop.is_running():
        loop.call_soon_threadsafe(lambda: loop.create_task(generator.aclose()))


async def _open_session(
    headers: Mapping[str, str], timeout_seconds: float, proxy: Proxy | None, context: ssl.SSLContext | None
) -> AsyncGenerator[aiohttp.ClientSession]:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=context or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        proxy=None if proxy is None else URL(proxy.address),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS),
    )
    try:
        yield session
    finally:
        await session.close()


def _find_target(url: URL, response: HttpResponse) -> URL | None:
    """Return where a download goes on; None where it does not, or may not: from https to http, to other protocols."""
    location = response.headers.get("Location")
    if response.status not in _REDIRECTS or location is None:
        return None
    try:
        target = url.join(URL(location, encoded=True)).with_user(None)
        target.origin()
    except ValueError:
        return None
    return target if target.scheme in ("https", url.scheme) else None


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


def _open(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    # As an error of its own: what aiohttp sees of the kind is a matter of the connection.
    try:
        return path.open(mode)
    except OSError as error:
        raise storage_error(path, error) from error


def _write(file: BinaryIO, chunk: bytes, path: Path) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise storage_error(path, error) from error
