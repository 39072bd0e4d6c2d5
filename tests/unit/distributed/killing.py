"""Ends workers at random moments."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def killing_workers(
    times: int, seed: int, name: str, every_seconds: tuple[float, float] = (0.05, 0.4)
) -> Iterator[list[int]]:
    """End processes of actors of this name at random moments while the block runs; gives those that were."""
    chance, done, killed = random.Random(seed), threading.Event(), list[int]()

    def kill() -> None:
        while len(killed) < times and not done.wait(chance.uniform(*every_seconds)):
            workers = [one for one in psutil.Process().children(recursive=True) if is_actor(one, name)]
            if workers:
                victim = chance.choice(sorted(workers, key=lambda one: one.pid))
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def is_actor(process: psutil.Process, name: str) -> bool:
    try:
        return name in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
