"""`serve`: listen, answer, and finish what is in flight when asked to stop."""

from __future__ import annotations

import gc
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from flip_reward.errors import MissingDependencyError, OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.server.settings import ServerSettings
from flip_reward.server.workers import run_workers

if TYPE_CHECKING:
    import uvicorn

    from flip_reward.server.gate import Gate

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

    from flip_reward.server.protocol import make_protocol

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
    from flip_reward.server.listening import PatientServer

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
