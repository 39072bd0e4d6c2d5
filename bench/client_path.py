"""Rewards a second from row to record against an instant server, beside three bare clients.

The path measured is the whole one: a JSONL row -> group -> prompt -> HTTP request -> reply -> F1 -> record on disk.
The server runs in a process of its own on the other core. Each client runs in a fresh process on one core, with the
same event loop, the same setting of the garbage collector, the same prompts of 3 kB, made before the clock runs, and
64 or 512 requests in flight:

- bare: aiohttp and orjson in the shortest loop, with nothing around them;
- openai: `openai.AsyncOpenAI`;
- litellm: `litellm.acompletion`.

Run `python bench/client_path.py` (needs bench/requirements.txt).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from figures import Figure, report

REPEATS = 3
REQUESTS = {"ours": 12_000, "bare": 12_000, "openai": 3_000, "litellm": 1_000}
IN_FLIGHT = (64, 512)
RESPONSE_CHARACTERS = 1_700  # with the template, a prompt of 3 kB
WORDS = (
    "bridge cable tower deck load tension anchor river steel concrete wind span carry weight force main side road "
    "because each slowly between under above together strong"
).split()


def make_responses(count: int) -> Iterator[str]:
    generator = random.Random(1)
    for number in range(count):
        text = f"{number} "
        while len(text) < RESPONSE_CHARACTERS:
            text += generator.choice(WORDS) + " "
        yield text


async def pump(count: int, in_flight: int, ask: Callable[[str], Awaitable[object]]) -> float:
    """Ask with so many workers, the way every one of the clients is driven; return the seconds it took."""
    await ask("")  # imports and connects whatever is left until the first request
    responses = iter(list(make_responses(count)))  # making one takes half as long as the bare client's request
    started = time.perf_counter()

    async def work() -> None:
        for response in responses:
            await ask(response)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return time.perf_counter() - started


async def run_bare(base_url: str, count: int, in_flight: int) -> float:
    import aiohttp
    import orjson

    from flip_reward.core.prompts import load_templates

    template = load_templates().plain
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:

        async def ask(response: str) -> object:
            system, user = template.format({"response": response})
            body = orjson.dumps(
                {
                    "model": "instant",
                    "messages": [
                        {"role": "system", "content": system.content},
                        {"role": "user", "content": user.content},
                    ],
                }
            )
            async with session.post(f"{base_url}/chat/completions", data=body) as answer:
                return orjson.loads(await answer.read())["choices"][0]["message"]["content"]

        return await pump(count, in_flight, ask)


async def run_openai(base_url: str, count: int, in_flight: int) -> float:
    from openai import AsyncOpenAI

    from flip_reward.core.prompts import load_templates

    template = load_templates().plain
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:

        async def ask(response: str) -> object:
            system, user = template.format({"response": response})
            completion = await client.chat.completions.create(
                model="instant",
                messages=[
                    {"role": "system", "content": system.content},
                    {"role": "user", "content": user.content},
                ],
            )
            return completion.choices[0].message.content

        return await pump(count, in_flight, ask)


async def run_litellm(base_url: str, count: int, in_flight: int) -> float:
    import litellm

    from flip_reward.core.prompts import load_templates

    template = load_templates().plain
    litellm.suppress_debug_info = True

    async def ask(response: str) -> object:
        system, user = template.format({"response": response})
        completion = await litellm.acompletion(
            model="openai/instant",
            base_url=base_url,
            api_key="none",
            messages=[{"role": "system", "content": system.content}, {"role": "user", "content": user.content}],
        )
        return completion.choices[0].message.content

    return await pump(count, in_flight, ask)


async def run_ours(base_url: str, count: int, in_flight: int) -> float:
    from flip_reward import FlipReward
    from flip_reward.engines.http.engine import HttpEngine
    from flip_reward.engines.middleware import build_stack
    from flip_reward.scoring.job import ScoringJob, open_job
    from flip_reward.scoring.runner import RunLimits

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "rows.jsonl").open("w") as file:
            for response in make_responses(count):
                row = {"instruction": "How does a suspension bridge work?", "response": response}
                file.write(json.dumps(row) + "\n")
        engine = build_stack(HttpEngine(base_url, "instant"), concurrency=in_flight)
        opened = open_job(
            ScoringJob(
                FlipReward(engine), [str(folder / "rows.jsonl")], folder / "run", limits=RunLimits(workers=in_flight)
            )
        )
        started = time.perf_counter()
        summary = await opened.run()
        seconds = time.perf_counter() - started
        opened.folder.close()
        assert summary.outcomes == {"scored": count}
        return seconds


CLIENTS = {"ours": run_ours, "bare": run_bare, "openai": run_openai, "litellm": run_litellm}


def run_client(name: str, base_url: str, in_flight: int) -> None:
    """Drive one client on one core, and print the seconds it took."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    gc.set_threshold(50_000)  # as a run has it
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(runner.run(CLIENTS[name](base_url, REQUESTS[name], in_flight)))


def measure_client(name: str, base_url: str, in_flight: int) -> float:
    """Return the requests a second of one client in a fresh process."""
    finished = subprocess.run(
        [sys.executable, __file__, "--client", name, base_url, str(in_flight)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # it would fetch prices from the network
    )
    return REQUESTS[name] / float(finished.stdout.split()[-1])


def measure() -> Iterator[Figure]:
    """Measure all clients by turns."""
    server_path = Path(__file__).with_name("instant_server.py")
    cores = sorted(os.sched_getaffinity(0))
    with subprocess.Popen(
        ["taskset", "-c", str(cores[-1]), sys.executable, str(server_path)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            for in_flight in IN_FLIGHT:
                rounds = [
                    {name: measure_client(name, base_url, in_flight) for name in CLIENTS} for _ in range(REPEATS)
                ]
                ours = statistics.median(figures["ours"] for figures in rounds)
                for peer in ("bare", "openai", "litellm"):
                    yield Figure(
                        f"client path, {in_flight} in flight",
                        round(ours, 1),
                        "rewards/s",
                        round(statistics.median(figures[peer] for figures in rounds), 1),
                        round(statistics.median(figures["ours"] / figures[peer] for figures in rounds), 2),
                        {"bare": "bare aiohttp + orjson", "openai": "AsyncOpenAI", "litellm": "litellm"}[peer],
                    )
        finally:
            server.terminate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        run_client(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        report(measure, "Rewards a second from row to record, beside bare clients.")
