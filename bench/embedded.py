"""The embedded engine: rewards a second with 1, 2 and 4 slots, beside the same llama.cpp object fed directly.

The peer is one llama.cpp server object of the same library with as many slots of its own, fed the same prompts from a
plain thread pool: prompt cache and continuous batching on, as it comes. Its replies depend on what is decoded at the
same time; how many differ from one request at a time is reported too. Ours never do.

Run `python bench/embedded.py` (needs the extra "local" and the default model).
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from figures import Figure, report
from flip_reward import FlipOptions, FlipReward, Group, Sampling
from flip_reward.data.groups import read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import InvalidRow
from flip_reward.data.shapes import Shape
from flip_reward.engines.files import locate_model
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.machine import count_usable_cpus

EXAMPLES = Path(__file__).parents[1] / "examples/responses.jsonl"
SLOTS = (1, 2, 4)
ROUNDS = 3
CONTEXT_TOKENS = 1024
OPTIONS = FlipOptions("compact", sampling=Sampling(max_tokens=48))
Messages = list[dict[str, str]]


def read_groups() -> list[Group]:
    rows = read_sources([open_input(str(EXAMPLES))], Shape())
    return [row.group for row in rows if not isinstance(row, InvalidRow)]


def render(groups: Sequence[Group], reward: FlipReward) -> list[Messages]:
    requests = [request for group in groups for request in reward.render(group) if request is not None]
    return [[{"role": message.role, "content": message.content} for message in r.messages] for r in requests]


def run_ours(model: Path, groups: Sequence[Group], slots: int) -> float:
    """Return the rewards a second of the whole path from groups to scores."""
    engine = EmbeddedEngine(model, slots=slots, context_tokens=CONTEXT_TOKENS)
    reward = FlipReward(engine, OPTIONS)
    asyncio.run(reward.score(list(groups[:1]) * slots))  # loads the slots
    started = time.perf_counter()
    scores = asyncio.run(reward.score(groups))
    seconds = time.perf_counter() - started
    engine.close()
    return sum(score.cost.attempts for group in scores for score in group) / seconds


def run_direct(model: Path, prompts: Sequence[Messages], slots: int) -> tuple[float, list[str]]:
    """Return the completions a second of llama.cpp's own batching, and the replies."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_parallel = slots
    parameters.n_ctx = slots * CONTEXT_TOKENS
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = count_usable_cpus()
    parameters.verbosity = -1
    with tempfile.TemporaryDirectory() as folder:
        parameters.hostnames = [f"{folder}/llama.sock"]
        server = xllamacpp.Server(parameters)

    def ask(messages: Messages) -> str:
        answer = server.handle_chat_completions({"messages": messages, "temperature": 0, "max_tokens": 48})
        return str(answer["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(slots) as threads:
        list(threads.map(ask, prompts[:slots]))
        started = time.perf_counter()
        replies = list(threads.map(ask, prompts))
        seconds = time.perf_counter() - started
    return len(prompts) / seconds, replies


def measure() -> Iterator[Figure]:
    """Measure both by turns."""
    model = locate_model("embedded").path
    groups = read_groups()
    prompts = render(groups, FlipReward(EmbeddedEngine(model, slots=1, context_tokens=256), OPTIONS))
    _, alone = run_direct(model, prompts, 1)
    for slots in SLOTS:
        rounds = []
        differing = 0
        for _ in range(ROUNDS):
            ours = run_ours(model, groups, slots)
            direct, replies = run_direct(model, prompts, slots)
            rounds.append((ours, direct))
            differing = max(differing, sum(one != other for one, other in zip(replies, alone, strict=True)))
        yield Figure(
            f"embedded, {slots} slots",
            round(statistics.median(ours for ours, _ in rounds), 3),
            "rewards/s",
            round(statistics.median(direct for _, direct in rounds), 3),
            round(statistics.median(ours / direct for ours, direct in rounds), 2),
            f"llama.cpp directly, {slots} slots",
        )
        yield Figure(
            f"replies of llama.cpp's own batching that differ, {slots} slots", differing, f"of {len(prompts)}"
        )


if __name__ == "__main__":
    report(measure, "Rewards a second of the embedded engine, beside llama.cpp fed directly.")
