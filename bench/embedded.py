"""The embedded engine: rewards a second with 1, 2 and 4 slots, beside the same llama.cpp object fed directly.

The peer is one llama.cpp server object of the same library with as many sequences in one context, fed the same
prompts from a plain thread pool: flash attention, prompt cache and continuous batching on, as it comes. Its replies
depend on what is decoded at the same time; how many differ from one request at a time is reported too. Ours never do.

The best of several rounds by turns counts: whatever else runs on the machine only slows them.

Then each cause of the difference alone, with one thread and by CPU time, which hardly depends on what else runs: what
llama.cpp loses without flash attention and without its prompt cache, and what it gains by 4 sequences in one context;
what our slot takes beside llama.cpp without flash attention; what the whole path from groups to scores takes beside
our slot; and the whole path with the template `tuned`, whose system message all prompts share.

Run `python bench/embedded.py` (needs the extra "local" and the default model).
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any

from figures import Figure, report
from flip_reward import FlipOptions, FlipReward, Group, Sampling
from flip_reward.data.groups import read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import InvalidRow
from flip_reward.data.shapes import Shape
from flip_reward.engines.base import Request
from flip_reward.engines.files import locate_model
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.llama_cpp.slot import LlamaSlot, SlotOptions
from flip_reward.engines.machine import count_usable_cpus

if TYPE_CHECKING:
    from xllamacpp import Server

EXAMPLES = Path(__file__).parents[1] / "examples/responses.jsonl"
MODEL = locate_model("smollm2-135m").path
SLOTS = (1, 2, 4)
ROUNDS = 2
EVERY = 2
CONTEXT_TOKENS = 1024
MAX_TOKENS = 48
OPTIONS = FlipOptions("compact", sampling=Sampling(max_tokens=MAX_TOKENS))
TUNED = FlipOptions("tuned", sampling=Sampling(max_tokens=MAX_TOKENS))
Run = tuple[Callable[[list[Any]], None], list[Any]]
"""What is measured, and the groups or requests it gets."""


def read_groups() -> list[Group]:
    """Read the example responses, each a group of its own."""
    rows = read_sources([open_input(str(EXAMPLES))], Shape())
    groups = [row.group for row in rows if not isinstance(row, InvalidRow)]
    return [group.only([index]) for group in groups for index in range(len(group.responses))]


def render(groups: Sequence[Group], options: FlipOptions = OPTIONS) -> list[Request]:
    reward = FlipReward(None, options)
    return [request for group in groups for request in reward.render(group) if request is not None]


def start_direct(model: Path, *, sequences: int = 1, threads: int | None = None, flash: bool = True) -> Server:
    """Load a model as llama.cpp's server does, without what it keeps of finished prompts: the rounds repeat them."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_parallel = sequences
    parameters.n_ctx = sequences * CONTEXT_TOKENS
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads or count_usable_cpus()
    parameters.cache_ram_mib = 0
    if not flash:
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.verbosity = -1
    with tempfile.TemporaryDirectory() as folder:
        parameters.hostnames = [f"{folder}/llama.sock"]
        return xllamacpp.Server(parameters)


class Direct:
    """llama.cpp fed from a plain thread pool, and its latest replies."""

    def __init__(self, *servers: Server, sequences: int = 1, cache: bool = True) -> None:
        self.idle: SimpleQueue[Server] = SimpleQueue()
        for server in servers * sequences:
            self.idle.put(server)
        self.threads = ThreadPoolExecutor(len(servers) * sequences)
        self.cache = cache
        self.replies: list[str] = []

    def __call__(self, requests: Sequence[Request]) -> None:
        self.replies = list(self.threads.map(self._ask, requests))

    def _ask(self, request: Request) -> str:
        server = self.idle.get()
        answer = server.handle_chat_completions(make_body(request, cache=self.cache))
        self.idle.put(server)
        return str(answer["choices"][0]["message"]["content"])


def make_body(request: Request, *, cache: bool = True) -> Mapping[str, object]:
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    return {"messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS, "cache_prompt": cache}


class OurSlot:
    """Our slot in a plain loop."""

    def __init__(self) -> None:
        self.slot = LlamaSlot(MODEL, SlotOptions(CONTEXT_TOKENS, 1, {}))

    def __call__(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self.slot.answer(request, Event())


class WholePath:
    """From groups to scores."""

    def __init__(self, slots: int, options: FlipOptions = OPTIONS, *, threads: int | None = None) -> None:
        engine = EmbeddedEngine(MODEL, slots=slots, threads=threads, context_tokens=CONTEXT_TOKENS)
        self.reward = FlipReward(engine, options)

    def __call__(self, groups: Sequence[Group]) -> None:
        asyncio.run(self.reward.score(groups))


def compare(*runs: Run, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return the highest rate of each, by turns; the last rows warm up."""
    rates = [0.0] * len(runs)
    for run, rows in runs:
        run(rows[-4:])
    for _ in range(ROUNDS):
        for number, (run, rows) in enumerate(runs):
            started = clock()
            run(rows)
            rates[number] = max(rates[number], len(rows) / (clock() - started))
    return rates


def measure() -> Iterator[Figure]:
    """Measure both by turns, then the causes."""
    groups = [group for group in read_groups() if render([group])][::EVERY]
    yield from measure_slots(groups, render(groups))
    yield from measure_causes(groups[::EVERY])


def measure_slots(groups: list[Group], prompts: list[Request]) -> Iterator[Figure]:
    alone: list[str] = []
    for slots in SLOTS:
        direct = Direct(start_direct(MODEL, sequences=slots), sequences=slots)
        ours, theirs = compare((WholePath(slots), groups), (direct, prompts))
        alone = alone or direct.replies
        peer = f"llama.cpp directly, {slots} sequences"
        yield Figure(f"embedded, {slots} slots", ours, "rewards/s", theirs, ours / theirs, peer)
        differing = sum(one != other for one, other in zip(direct.replies, alone, strict=True))
        yield Figure(
            f"replies of llama.cpp's own batching that differ, {slots} sequences", differing, f"of {len(prompts)}"
        )


def measure_causes(groups: list[Group]) -> Iterator[Figure]:
    prompts, tuned_prompts = render(groups), render(groups, TUNED)
    plain, unfused = (start_direct(MODEL, threads=1, flash=flash) for flash in (True, False))
    batching = Direct(start_direct(MODEL, threads=1, sequences=4), sequences=4)
    direct, no_flash, no_cache, batched, slot, path, tuned, direct_tuned = compare(
        (Direct(plain), prompts),
        (Direct(unfused), prompts),
        (Direct(plain, cache=False), prompts),
        (batching, prompts),
        (OurSlot(), prompts),
        (WholePath(1, threads=1), groups),
        (WholePath(1, TUNED, threads=1), groups),
        (Direct(plain), tuned_prompts),
        clock=time.process_time,
    )
    for name, value, peer, beside in (
        ("llama.cpp without flash attention", no_flash, direct, "with it"),
        ("llama.cpp without its prompt cache", no_cache, direct, "with it"),
        ("llama.cpp, 4 sequences in a context", batched, direct, "1 sequence"),
        ("our slot", slot, no_flash, "llama.cpp without flash attention"),
        ("from groups to scores", path, slot, "our slot"),
        ("from groups to scores", path, direct, "llama.cpp directly"),
        ("from groups to scores, `tuned`", tuned, direct_tuned, "llama.cpp directly"),
    ):
        yield Figure(name, value, "rewards a CPU second", peer, value / peer, beside)


if __name__ == "__main__":
    report(measure, "Rewards a second of the embedded engine, beside llama.cpp fed directly.")
