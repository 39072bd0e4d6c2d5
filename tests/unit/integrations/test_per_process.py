from __future__ import annotations

import os
import threading
import time

import pytest

from flip_reward.integrations.base import OncePerProcess


def test_threads_that_come_at_once_share_one() -> None:
    made: list[int] = []

    def make() -> int:
        time.sleep(0.05)  # long enough for all threads to come in
        made.append(len(made))
        return len(made)

    once = OncePerProcess(make)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(once())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [0]
    assert results == [1] * 8


def test_a_failure_is_not_kept() -> None:
    attempts: list[str] = []

    def make() -> str:
        attempts.append("once more")
        if len(attempts) == 1:
            raise OSError("the disk is away")
        return "made"

    once = OncePerProcess(make)
    with pytest.raises(OSError, match="away"):
        once()
    assert once() == "made"


def test_what_was_made_can_be_forgotten() -> None:
    once = OncePerProcess(object)
    assert once.forget() == []
    first = once()
    assert once.forget() == [first]
    assert once() is not first


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_makes_its_own() -> None:
    once = OncePerProcess(os.getpid)
    assert once() == os.getpid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"own" if once() == os.getpid() else b"inherited")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"own"
    os.close(reading)
    os.close(writing)
