"""A load of HTTP requests over raw connections, cheap enough to be no bottleneck itself.

Closed loop: a number of connections each send the next request when the last one is answered. Open loop: requests
leave at a steady rate whatever is answered, and latency counts from when a request should have left.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast


@dataclass(slots=True)
class Load:
    """What came back.

    Attributes:
        statuses: How many answers had each status.
        latencies_seconds: How long each answer with status 200 took.
        seconds: From the first request to the last answer.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers with status 200 a second."""
        return self.statuses[200] / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies in milliseconds."""
        ordered = sorted(self.latencies_seconds)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] * 1000

    def share(self, status: int) -> float:
        """Return the share of the answers with a status."""
        return self.statuses[status] / self.statuses.total()

    def add(self, status: int, latency_seconds: float) -> None:
        """Count one answer."""
        self.statuses[status] += 1
        if status == 200:
            self.latencies_seconds.append(latency_seconds)


class Connection(asyncio.Protocol):
    """One connection with one request in flight; reads answers by their Content-Length."""

    def __init__(self) -> None:
        self._received = b""
        self._answered: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the future is its status."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head_end = received.find(b"\r\n\r\n")
        at = received.lower().find(b"content-length:", 0, head_end) if head_end >= 0 else -1
        complete = at >= 0 and len(received) >= head_end + 4 + int(received[at + 15 : at + 25].split(b"\r", 1)[0])
        if not complete:
            self._received = received
            return
        self._received = b""
        if self._answered is not None:
            self._answered.set_result(int(received[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError("the server hung up"))

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


def make_request(path: str, body: bytes) -> bytes:
    """Return the bytes of a POST."""
    head = (f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


async def connect(port: int) -> Connection:
    """Open a connection on this machine."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


async def run_closed(port: int, requests: Iterator[bytes], *, in_flight: int) -> Load:
    """Send requests with so many in flight until there are no more; the first of each connection does not count."""
    load = Load()
    connections = [await connect(port) for _ in range(in_flight)]
    for connection in connections:  # until the server has taken every connection, some would wait for others
        await connection.ask(next(requests))

    async def work(connection: Connection) -> None:
        for request in requests:
            sent = time.perf_counter()
            load.add(await connection.ask(request), time.perf_counter() - sent)

    started = time.perf_counter()
    await asyncio.gather(*(work(connection) for connection in connections))
    load.seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    return load


async def run_open(port: int, requests: Iterator[bytes], *, rate: float, connections: int) -> Load:
    """Send requests at a steady rate until there are no more.

    Args:
        port: Where.
        requests: What.
        rate: Requests a second.
        connections: How many are open at first; more are opened when all are busy.
    """
    load = Load()
    free = deque([await connect(port) for _ in range(connections)])
    every = list(free)
    pending: set[asyncio.Task[None]] = set()

    async def ask(request: bytes, due: float) -> None:
        if free:
            connection = free.pop()
        else:
            connection = await connect(port)
            every.append(connection)
        load.add(await connection.ask(request), time.perf_counter() - due)
        free.append(connection)

    started = time.perf_counter()
    for number, request in enumerate(requests):
        due = started + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(ask(request, due))
        pending.add(task)
        task.add_done_callback(pending.discard)
        if not number % 16:
            await asyncio.sleep(0)
    await asyncio.gather(*pending)
    load.seconds = time.perf_counter() - started
    for connection in every:
        connection.close()
    return load
