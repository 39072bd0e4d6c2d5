"""`PatientServer`: uvicorn's server, which takes every connection that waits. This module imports uvicorn."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import uvicorn

CONNECTIONS_AT_ONCE = 32


class PatientServer(uvicorn.Server):
    """Takes connections as fast as they come.

    uvloop takes one connection in each turn of its event loop. Under load a turn is long, and trainers that connect
    anew for each request would wait for seconds until anybody looks at them, behind others that are answered at once.
    """

    _doors: tuple[socket.socket, ...] = ()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self._doors = tuple(listener.dup() for listener in sockets or ())
        for door in self._doors:
            door.settimeout(0)
            asyncio.get_running_loop().add_reader(door.fileno(), self._take, door)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and finish."""
        for door in self._doors:
            asyncio.get_running_loop().remove_reader(door.fileno())
            door.close()
        await super().shutdown(sockets)

    def _take(self, door: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # Whoever else watches the listener may have been first, and whoever connected may have left.
        with suppress(OSError):
            for _ in range(CONNECTIONS_AT_ONCE):
                connection, _ = door.accept()
                connection.settimeout(0)
                task = loop.create_task(self._connect(connection))
                self.server_state.tasks.add(task)
                task.add_done_callback(self.server_state.tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)

    def _make_protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
