"""`serve`: listen, answer, and finish what is in flight when asked to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from flip_reward.engines.machine import OBJECTS_BETWEEN_COLLECTIONS
from flip_reward.errors import FlipRewardError, MissingDependencyError, OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.server.settings import ServerSettings

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from flip_reward.server.gate import Gate

KEEP_ALIVE_SECONDS = 75  # longer than the clients of trainers keep an idle connection, so that they hang up first
BACKLOG = 4096
OPEN_FILES = 65_536
MAX_HEADER_BYTES = 64 * 2**10
CONNECTIONS_AT_ONCE = 32

_LOOK_SECONDS = 0.2
_Mistakes: TypeAlias = "SimpleQueue[tuple[str, str | None]]"


def serve(make_reward: Callable[[], RewardModel], settings: ServerSettings, announce: Callable[[str], None]) -> None:
    """Serve a reward until SIGTERM or Ctrl-C, then finish requests in flight for at most `drain_seconds`.

    A second Ctrl-C stops at once. With several workers each process calls `make_reward`, so it has to be picklable.
    """
    try:
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(error.name or "uvicorn", extra="serve") from error
    with listen(settings) as listener:
        if settings.workers == 1:
            app = _build(make_reward, settings)
            announce(_address(listener))
            run_app(app, settings, listener)
        else:
            announce(_address(listener))
            run_workers(partial(_work, make_reward, settings), listener, settings.workers)


def listen(settings: ServerSettings) -> socket.socket:
    """Open the socket that clients connect to."""
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


def _work(make_reward: Callable[[], RewardModel], settings: ServerSettings, listener: socket.socket) -> None:
    run_app(_build(make_reward, settings), settings, listener)


def _build(make_reward: Callable[[], RewardModel], settings: ServerSettings) -> Starlette:
    from flip_reward.server.app import create_app

    configure_logging()
    allow_many_connections()
    app = create_app(make_reward(), settings)
    # What is loaded now stays. Collecting garbage in it again and again holds answers up: at 64 requests in
    # flight the 99th percentile is 44 ms without this and 24 ms with it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    return app


def run_app(app: Starlette, settings: ServerSettings, listener: socket.socket) -> None:
    """Answer at a socket until SIGTERM or Ctrl-C."""
    # Once it has drained, uvicorn raises the signal again, as if nothing had handled it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    make_server(app, settings).run(share(listener, settings.workers))


def make_server(
    app: Starlette, settings: ServerSettings, *, keep_alive_seconds: int = KEEP_ALIVE_SECONDS
) -> uvicorn.Server:
    """Make the uvicorn server of an application."""
    import uvicorn

    drain_seconds = settings.drain_seconds
    config = uvicorn.Config(
        app,
        http=_make_protocol(app.state.gate, settings.limits.body_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=keep_alive_seconds,
        timeout_graceful_shutdown=None if math.isinf(drain_seconds) else max(round(drain_seconds), 1),
        backlog=BACKLOG,
    )
    return uvicorn.Server(config)


def share(listener: socket.socket, workers: int = 1) -> list[socket.socket]:
    """Return a listening socket many times over.

    uvloop takes one connection from each socket in a turn of its event loop, and under load a turn takes 100 ms. With
    512 busy connections, 200 new ones wait for up to 10 s at one socket and for 0.5 s at 32 copies of it. Several
    workers have these copies between them: of 64 connections at once one of two workers took 51 with 32 copies each,
    and at most 38 with 16.
    """
    # A copy takes over whether its original waits, and the system has one such mark for all copies in all workers: a
    # worker that starts would make those that answer wait in `accept` for the next connection.
    listener.settimeout(0)
    return [listener, *(listener.dup() for _ in range(CONNECTIONS_AT_ONCE // workers - 1))]


def _make_protocol(gate: Gate, header_seconds: float) -> type[asyncio.Protocol]:  # noqa: C901 - a class, not a path
    """Make uvicorn's HTTP protocol with limits for the time and size of headers, and a time for the first request.

    uvicorn itself waits forever in all three cases, so that a few clients could hold every connection. Requests that
    there is no room for are turned away here, in half the time that the application would take.
    """
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class GuardedProtocol(HttpToolsProtocol):
        header_bytes = 0
        in_headers = False
        turned_away = False
        header_deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            super().connection_made(transport)
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

        def connection_lost(self, exc: Exception | None) -> None:
            self._unset_keepalive_if_required()
            self.end_headers()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.in_headers:  # most headers come in one piece, so this is rare
                self.header_bytes += len(data)
                if self.header_bytes > MAX_HEADER_BYTES:
                    self.hang_up()
                elif self.header_deadline is None:
                    self.header_deadline = self.loop.call_later(header_seconds, self.hang_up)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["state"]["is_lost"] = self.transport.is_closing
            self.in_headers = True

        def on_headers_complete(self) -> None:
            self.end_headers()
            answer = self.find_refusal()
            if answer is None:
                super().on_headers_complete()
            else:
                self.turned_away = True
                self.transport.write(answer)
                self.on_response_complete()

        def on_body(self, body: bytes) -> None:
            if not self.turned_away:
                super().on_body(body)

        def on_message_complete(self) -> None:
            if self.turned_away:
                self.turned_away = False
                self.on_response_complete()  # the rest of the body has stopped the time for the next request
            else:
                super().on_message_complete()

        def find_refusal(self) -> bytes | None:
            """Return the answer to a plain POST that there is no room for; all others are left to the application."""
            if not gate.admission.full:
                return None
            parser = self.parser
            asked = parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
            busy = self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]
            if busy or not asked or not parser.should_keep_alive() or parser.should_upgrade():
                return None
            path = self.url.partition(b"?")[0].decode("latin-1")
            return gate.turn_away(path, self.headers, self.server_state.default_headers)

        def end_headers(self) -> None:
            self.in_headers = False
            self.header_bytes = 0
            if self.header_deadline is not None:
                self.header_deadline.cancel()
                self.header_deadline = None

        def hang_up(self) -> None:
            self.end_headers()
            if not self.transport.is_closing():
                self.transport.close()

    return GuardedProtocol


def configure_logging() -> None:
    """Write to standard error: failures and changes, and with an access log every request."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("flip_reward.server", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def allow_many_connections() -> None:
    """Raise the process's limit on open files as far as the system allows; many systems begin with 1,024."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_workers(work: Callable[[socket.socket], None], listener: socket.socket, count: int) -> None:
    """Run worker processes until SIGTERM or Ctrl-C, and replace any that dies. `work` has to be picklable.

    A process uses one core. With two, a group of 8 takes the same CPU time as with one, so that on cores of their own
    they answer twice as many. uvicorn's own supervisor restarts a worker that cannot load its model forever; here
    that ends all of them with an `OptionError`.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks, and what they hold
    mistakes: _Mistakes = context.SimpleQueue()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopping.set())

    def start() -> SpawnProcess:
        process = context.Process(target=_run_worker, args=(work, listener, mistakes))
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


def _run_worker(work: Callable[[socket.socket], None], listener: socket.socket, mistakes: _Mistakes) -> None:
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        work(listener)
    except FlipRewardError as error:
        mistakes.put((str(error), error.hint))


def _stop_with_parent() -> None:
    """Finish in order when the parent process, which would have asked for it, is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
