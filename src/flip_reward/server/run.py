"""`serve`: listen, answer, and finish what is in flight when asked to stop."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flip_reward.errors import FlipRewardError, MissingDependencyError, OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.server.settings import ServerSettings

if TYPE_CHECKING:
    import uvicorn

    from flip_reward.server.gate import Gate

KEEP_ALIVE_SECONDS = 75  # longer than the clients of trainers keep an idle connection, so that they hang up first
BACKLOG = 4096
OPEN_FILES = 65_536


@dataclass(frozen=True, slots=True)
class AppFactory:
    """Makes the application in the process that serves it; it can be sent to another process.

    Attributes:
        make_reward: Makes the reward, with its model.
        settings: What the user chose.
    """

    make_reward: Callable[[], RewardModel]
    settings: ServerSettings

    def __call__(self) -> Gate:
        """Load the model and build the application."""
        from flip_reward.server.app import create_app

        configure_logging()
        allow_many_connections()
        return create_app(self.make_reward(), self.settings)


@dataclass(frozen=True, slots=True)
class WorkerFactory:
    """`AppFactory` in one of several processes: a mistake ends the process with one line."""

    inner: AppFactory

    def __call__(self) -> Gate:
        """Build the application, or tell why not."""
        from uvicorn.config import STARTUP_FAILURE

        try:
            return self.inner()
        except FlipRewardError as error:
            sys.stderr.write(f"Error: {error}\n" + (f"Hint: {error.hint}\n" if error.hint else ""))
            sys.exit(STARTUP_FAILURE)  # the supervisor then ends, too, and does not start it again


def serve(make_reward: Callable[[], RewardModel], settings: ServerSettings, announce: Callable[[str], None]) -> None:
    """Serve a reward until SIGTERM or Ctrl-C.

    Requests in flight are then finished, as long as they take no longer than `drain_seconds`. A second Ctrl-C stops
    at once.

    Args:
        make_reward: Makes the reward, with its model. With several workers each process calls it, so it has to be
            something that pickle knows: a function of a module, or a `functools.partial` of one.
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
        import uvicorn
        from uvicorn.supervisors.multiprocess import Multiprocess
    except ImportError as error:
        raise MissingDependencyError(error.name or "uvicorn", extra="serve") from error
    factory = AppFactory(make_reward, settings)
    with listen(settings) as listener:
        if settings.workers == 1:
            config = make_config(factory(), settings)
            announce(_address(listener))
            # Once it has drained, uvicorn raises the signal again, as if it had not been heeded.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda _number, _frame: None)
            uvicorn.Server(config).run([listener])
        else:
            announce(_address(listener))
            Multiprocess(make_config(WorkerFactory(factory), settings), [listener]).run()


def make_config(app: Gate | WorkerFactory, settings: ServerSettings) -> uvicorn.Config:
    """Say how uvicorn runs the application."""
    import uvicorn

    from flip_reward.server.protocol import PatientProtocol

    return uvicorn.Config(
        app,
        factory=isinstance(app, WorkerFactory),
        workers=settings.workers,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(round(settings.drain_seconds), 1),
        timeout_worker_healthcheck=60,
        backlog=BACKLOG,
    )


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
