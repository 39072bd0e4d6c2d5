"""`run_workers`: several processes that answer at one address."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from typing import TypeAlias

from flip_reward.errors import FlipRewardError, OptionError

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
