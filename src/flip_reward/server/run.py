"""`serve`: listen, answer, and finish what is in flight when asked to stop.

`PatientServer`: uvicorn's server, which takes every connection that waits. This module imports uvicorn.

`PatientProtocol`: uvicorn's HTTP protocol with an end to its patience. This module imports uvicorn.

`run_workers`: several processes that answer at one address.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flip_reward.errors import FlipRewardError, MissingDependencyError, OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.server.settings import ServerSettings

if TYPE_CHECKING:
    import uvicorn

    from flip_reward.server.gate import Gate


Work: TypeAlias = Callable[[socket.socket], None]
"""What a worker does: it answers at a socket until it gets SIGTERM. It has to be something that pickle knows."""

_LOOK_SECONDS = 0.2


def run_workers(work: Work, listener: socket.socket, count: int) -> None:
    """Run workers until SIGTERM or Ctrl-C, and start another one wherever one dies.

    Args:
        work: What each does.
        listener: Where clients connect; the system shares the connections out.
        count: How many workers, at least 1.

    Raises:
        OptionError: A worker could not start. Another one could not either, so all of them end.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks, and what they hold
    mistakes: SimpleQueue[tuple[str, str | None]] = context.SimpleQueue()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopping.set())

    def start() -> SpawnProcess:
        process = context.Process(target=_run, args=(work, listener, mistakes))
        process.start()
        return process

    processes = [start() for _ in range(count)]
    try:
        while not stopping.is_set() and mistakes.empty():
            wait([process.sentinel for process in processes], timeout=_LOOK_SECONDS)
            if not stopping.is_set() and mistakes.empty():
                processes = [process if process.is_alive() else start() for process in processes]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    if not mistakes.empty():
        message, hint = mistakes.get()
        raise OptionError(message, hint=hint)


def _run(work: Work, listener: socket.socket, mistakes: SimpleQueue[tuple[str, str | None]]) -> None:
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        work(listener)
    except FlipRewardError as error:
        mistakes.put((str(error), error.hint))


def _stop_with_parent() -> None:
    """Finish in order when the process that would have asked for it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


KEEP_ALIVE_SECONDS = 75  # longer than the clients of trainers keep an idle connection, so that they hang up first
BACKLOG = 4096
OPEN_FILES = 65_536


def serve(make_reward: Callable[[], RewardModel], settings: ServerSettings, announce: Callable[[str], None]) -> None:
    """Serve a reward until SIGTERM or Ctrl-C.

    Requests in flight are then finished, as long as they take no longer than `drain_seconds`. A second Ctrl-C stops
    at once.

    Args:
        make_reward: Makes the reward, with its model. With several workers each process calls it, so it has to be
            something that pickle knows: a function of a module, or a method of something that pickle knows.
        settings: What the user chose.
        announce: Is told the address once somebody can connect to it.

    Raises:
        MissingDependencyError: FastAPI, uvicorn or prometheus-client is not installed.
        OptionError: The address cannot be listened at.
        FlipRewardError: The model cannot be loaded.
    """
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(error.name or "uvicorn", extra="serve") from error
    with listen(settings) as listener:
        if settings.workers == 1:
            app = _build(make_reward, settings)
            announce(_address(listener))
            _answer(app, settings, listener)
        else:
            announce(_address(listener))
            run_workers(partial(_work, make_reward, settings), listener, settings.workers)


def make_config(app: Gate, settings: ServerSettings) -> uvicorn.Config:
    """Say how uvicorn runs the application."""
    import uvicorn

    return uvicorn.Config(
        app,
        http=make_protocol(settings.limits.body_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(round(settings.drain_seconds), 1),
        backlog=BACKLOG,
    )


def _work(make_reward: Callable[[], RewardModel], settings: ServerSettings, listener: socket.socket) -> None:
    _answer(_build(make_reward, settings), settings, listener)


def _build(make_reward: Callable[[], RewardModel], settings: ServerSettings) -> Gate:
    from flip_reward.server.app import create_app

    configure_logging()
    allow_many_connections()
    app = create_app(make_reward(), settings)
    # What is loaded now stays. Looking through it for garbage again and again would hold up answers for tens of
    # milliseconds.
    gc.collect()
    gc.freeze()
    return app


def _answer(app: Gate, settings: ServerSettings, listener: socket.socket) -> None:

    server = PatientServer(make_config(app, settings))
    # Once it has drained, uvicorn raises the signal again, as if it had not been heeded.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    server.run([listener])


def configure_logging() -> None:
    """Write what the server says to standard error: failures and changes, and with an access log every request."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("flip_reward.server", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def allow_many_connections() -> None:
    """Let the process hold as many connections open as the system lets it; many systems begin with 1,024 files."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(settings: ServerSettings) -> socket.socket:
    """Open the socket that clients connect to.

    Raises:
        OptionError: The address is not one of this machine, or is taken.
    """
    try:
        [family, kind, protocol, _, address], *_ = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise OptionError(
            f"cannot listen at {settings.host}:{settings.port}: {error.strerror or error}",
            hint="another --host or --port",
        ) from None
    listener.set_inheritable(True)
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
