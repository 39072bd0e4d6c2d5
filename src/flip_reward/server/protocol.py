"""`PatientProtocol`: uvicorn's HTTP protocol with an end to its patience. This module imports uvicorn."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 * 2**10


class PatientProtocol(HttpToolsProtocol):
    """Closes connections that never ask anything, and those whose headers are too long or take too long.

    Attributes:
        header_seconds: How long the headers of a request may take.
    """

    header_seconds = 30.0
    _header_bytes = 0
    _header_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request as uvicorn waits for the next one."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop every clock."""
        self._unset_keepalive_if_required()
        self._stop_header_clock()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to read headers."""
        super().on_message_begin()
        self._header_bytes = 0
        self._header_deadline = self.loop.call_later(self.header_seconds, self._hang_up)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read one header."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._hang_up()
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin with the request, unless its headers were too long."""
        self._stop_header_clock()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def _stop_header_clock(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def _hang_up(self) -> None:
        self._stop_header_clock()
        if not self.transport.is_closing():
            self.transport.close()


def make_protocol(header_seconds: float) -> type[PatientProtocol]:
    """Make the protocol with the patience that a user chose; uvicorn itself makes one for each connection."""
    return type("PatientProtocol", (PatientProtocol,), {"header_seconds": header_seconds})
