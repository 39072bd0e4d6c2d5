"""Requests a second and latencies of `flip-reward serve` with a scripted engine, beside a bare route.

The engine answers at once, so everything measured is ours: HTTP, JSON, prompts, parsing, F1. The peer is a Starlette
route that does the same work in the shortest way (`bare_server.py`): the same JSON in and out, prompts, replies and
F1, without checks, limits, counts, caching or what a response copies, run by the same uvicorn with the same settings.
Server and client have a core each. Requests hold one group, "single" ones of one response, those "of 8" of eight;
each response is 1.7 kB long. Both give the same rewards, or the program stops.

Two workers share two cores with the client, so what they could do on cores of their own is known by the CPU time of
a request, beside that of one worker.

Overload is an open loop at twice the rate that 64 connections in a closed loop reach, with room for as many responses
as these have in flight (`--max-pending 512`). Latencies of the open loop count from when a request should have left.

Run `python bench/server_load.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from urllib.request import Request, urlopen

import psutil

from figures import Figure, report
from load import Load, make_request, run_closed, run_open

REPEATS = 3
IN_FLIGHT = (1, 64, 512)
GROUP_SIZES = {"single": 1, "of 8": 8}
REQUESTS = {("single", 1): 1_500, ("single", 64): 8_000, ("single", 512): 8_000}
REQUESTS |= {("of 8", 1): 500, ("of 8", 64): 3_000, ("of 8", 512): 3_000}
SATURATING_CONNECTIONS = 64
OVERLOAD_SECONDS = 4
MEMORY_REQUESTS = 100_000
RESPONSE_CHARACTERS = 1_700
DIFFERENT_REQUESTS = 2_000
WORDS = "bridge cable tower deck load tension anchor river steel concrete wind span carry weight force main".split()
OURS = [sys.executable, "-m", "flip_reward.cli.app", "serve", "--model", "scripted", "--port", "0"]
CORES = sorted(os.sched_getaffinity(0))
BARE = [sys.executable, str(Path(__file__).with_name("bare_server.py"))]


def make_requests(size: int) -> list[bytes]:
    """Make different requests of one group with so many responses."""
    generator = random.Random(size)

    def respond(number: int) -> str:
        text = f"{number} "
        while len(text) < RESPONSE_CHARACTERS:
            text += generator.choice(WORDS) + " "
        return text

    def make(number: int) -> bytes:
        group = {"prompt": "How does a suspension bridge work?", "responses": [respond(number) for _ in range(size)]}
        return make_request("/v1/rewards", json.dumps({"groups": [group]}).encode())

    return [make(number) for number in range(DIFFERENT_REQUESTS // size)]


@contextmanager
def serving(command: list[str], *options: str, cores: Iterable[int] = ()) -> Iterator[tuple[int, psutil.Process]]:
    """Run a server on the last core, or on some; give its port and its process."""
    allowed = ",".join(map(str, cores or CORES[-1:]))
    with subprocess.Popen(
        ["taskset", "-c", allowed, *command, *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().partition(" (")[0]
            yield int(re.findall(r"\d+", said)[-1]), psutil.Process(process.pid)
        finally:
            process.terminate()


def run(load: Callable[[], Coroutine[object, object, Load]]) -> Load:
    """Run one load in an event loop of its own."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(load())


def closed(port: int, requests: list[bytes], count: int, in_flight: int) -> Load:
    """Run a closed loop; every answer has to be a good one."""
    load = run(lambda: run_closed(port, islice(cycle(requests), count + in_flight), in_flight=in_flight))
    assert load.statuses == {200: count}, load.statuses
    return load


def read_rewards(port: int, request: bytes) -> list[float]:
    """Ask once, and return the rewards."""
    body = request.partition(b"\r\n\r\n")[2]
    asked = Request(f"http://127.0.0.1:{port}/v1/rewards", body, {"Content-Type": "application/json"})
    with urlopen(asked) as answer:
        [result] = json.load(answer)["results"]
    return [score["reward"] for score in result["scores"]]


def compare(kind: str, in_flight: int) -> Iterator[Figure]:
    """Measure ours and the bare route by turns."""
    requests, count = make_requests(GROUP_SIZES[kind]), REQUESTS[kind, in_flight]
    with serving(OURS) as (our_port, us), serving(BARE) as (bare_port, them):
        assert read_rewards(our_port, requests[0]) == read_rewards(bare_port, requests[0])
        before = cpu_seconds(us), cpu_seconds(them)
        rounds = [
            (closed(our_port, requests, count, in_flight), closed(bare_port, requests, count, in_flight))
            for _ in range(REPEATS)
        ]
        our_cpu, bare_cpu = (cpu_seconds(one) - start for one, start in zip((us, them), before, strict=True))
    name, beside = f"groups {kind}, {in_flight} in flight", "bare route, same work"
    ours, bare = (statistics.median(load.rate for load in loads) for loads in zip(*rounds, strict=True))
    ratio = statistics.median(our.rate / peer.rate for our, peer in rounds)
    yield Figure(name, round(ours, 1), "requests/s", round(bare, 1), round(ratio, 2), beside)
    if in_flight == SATURATING_CONNECTIONS:
        our_us, bare_us = (seconds / REPEATS / (count + in_flight) * 1e6 for seconds in (our_cpu, bare_cpu))
        shown = (round(our_us, 1), "µs", round(bare_us, 1), round(bare_us / our_us, 2), beside)
        yield Figure(f"{name}, CPU time of a request", *shown)
    for percent in (50, 99):
        our_ms, bare_ms = (
            statistics.median(load.percentile_ms(percent) for load in loads) for loads in zip(*rounds, strict=True)
        )
        shown = (round(our_ms, 2), "ms", round(bare_ms, 2), round(bare_ms / our_ms, 2), beside)
        yield Figure(f"{name}, p{percent}", *shown)


def overload() -> Iterator[Figure]:
    """Measure what becomes of requests at half and at twice the rate that saturates the server."""
    requests = make_requests(8)
    rounds = []
    with serving(OURS, "--max-pending", str(SATURATING_CONNECTIONS * 8)) as (port, _):
        for _ in range(REPEATS):
            saturated = closed(port, requests, REQUESTS["of 8", 64], SATURATING_CONNECTIONS)
            rounds.append(
                {1.0: saturated} | {factor: opened(port, requests, saturated.rate * factor) for factor in (0.5, 2.0)}
            )
    p99s = {factor: statistics.median(loads[factor].percentile_ms(99) for loads in rounds) for factor in rounds[0]}
    for factor, name in ((1.0, "saturation, groups of 8"), (0.5, "half that rate"), (2.0, "twice that rate")):
        rate = statistics.median(loads[factor].rate for loads in rounds)
        goodput = statistics.median(loads[factor].rate / loads[1.0].rate for loads in rounds)
        saturation = statistics.median(loads[1.0].rate for loads in rounds)
        shown = (round(saturation, 1), round(goodput, 2), "rate at saturation")
        yield Figure(f"{name}, answered 200", round(rate, 1), "requests/s", *(shown if factor == 2.0 else ()))
        if factor != 1.0:
            shed = statistics.median(loads[factor].share(429) for loads in rounds)
            yield Figure(f"{name}, answered 429", round(shed * 100, 1), "% of requests")
        ratio = statistics.median(loads[1.0].percentile_ms(99) / loads[factor].percentile_ms(99) for loads in rounds)
        yield Figure(
            f"{name}, p99 of those answered 200",
            round(p99s[factor], 1),
            "ms",
            round(p99s[1.0], 1),
            round(ratio, 2),
            "p99 at saturation",
        )


def opened(port: int, requests: list[bytes], rate: float) -> Load:
    """Run an open loop; every answer has to be a good one or a refusal."""
    many = islice(cycle(requests), int(rate * OVERLOAD_SECONDS))
    load = run(lambda: run_open(port, many, rate=rate, connections=SATURATING_CONNECTIONS))
    assert load.statuses.keys() <= {200, 429}, load.statuses
    return load


def two_workers() -> Iterator[Figure]:
    """Measure what two workers take for a request, beside one."""
    requests = make_requests(8)
    rounds = [
        [measure_cpu(requests, workers, cores) for workers, cores in ((1, CORES[-1:]), (2, CORES))]
        for _ in range(REPEATS)
    ]
    for place, name, unit in (
        (0, "CPU time of a group of 8, two workers", "µs"),
        (1, "groups of 8, two workers", "requests/s"),
    ):
        one, two = (statistics.median(measured[place] for measured in turn) for turn in zip(*rounds, strict=True))
        ratio = statistics.median(one[place] / two[place] for one, two in rounds)
        ratio = ratio if place == 0 else 1 / ratio
        yield Figure(name, round(two, 1), unit, round(one, 1), round(ratio, 2), "one worker")


def measure_cpu(requests: list[bytes], workers: int, cores: list[int]) -> tuple[float, float]:
    """Return the CPU time of a request in µs, and the requests a second, with cores that the client shares."""
    count = REQUESTS["of 8", SATURATING_CONNECTIONS]
    with serving(OURS, "--workers", str(workers), cores=cores) as (port, process):
        before, now = -1.0, 0.0
        while now != before:  # until every worker is there
            time.sleep(1)
            before, now = now, cpu_seconds(process)
        load = closed(port, requests, count, SATURATING_CONNECTIONS)
        return (cpu_seconds(process) - now) / (count + SATURATING_CONNECTIONS) * 1e6, load.rate


def cpu_seconds(process: psutil.Process) -> float:
    """Return what a process and its children have computed."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def memory() -> Iterator[Figure]:
    """Measure how the server's memory grows with the requests."""
    requests = make_requests(1)
    with serving(OURS) as (port, process):
        closed(port, requests, MEMORY_REQUESTS // 10, 64)
        after_first = process.memory_info().rss
        closed(port, requests, MEMORY_REQUESTS - MEMORY_REQUESTS // 10, 64)
        after_all = process.memory_info().rss
    yield Figure(f"memory after {MEMORY_REQUESTS:,} requests", round(after_all / 1e6, 1), "MB")
    name = f"memory, growth after the first {MEMORY_REQUESTS // 10:,} requests"
    yield Figure(name, round((after_all - after_first) / 1e6, 2), "MB")


def measure() -> Iterator[Figure]:
    """Measure everything."""
    os.sched_setaffinity(0, {CORES[0]})
    for kind in GROUP_SIZES:
        for in_flight in IN_FLIGHT:
            yield from compare(kind, in_flight)
    yield from two_workers()
    yield from overload()
    yield from memory()


if __name__ == "__main__":
    report(measure, "Requests a second of the server, beside a bare route.")
