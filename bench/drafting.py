"""Drafting a reply from its instruction: how often a draft is right, what a pass costs with one, and what that gains.

A reply often repeats the instruction, which the caller knows, and the response, which is in the prompt. So what
follows there could be proposed as a draft that the model verifies in one pass: of k drafted tokens those that the
model would have written are kept, and one more. This is an estimate, as no engine in this process drafts:

- tokens a pass, by replay of greedy replies of the default model, and how many drafted tokens are right. Drafted is
  what follows the last tokens in the instruction, its end included, or at first how the instruction begins; or what
  follows them in the response; or in either;
- the cost of a pass that reads several tokens behind 256 others, in CPU time with one thread: in llama.cpp for one
  sequence, as a slot of the embedded engine has it, in transformers for batches. llama.cpp computes logits for the
  last token alone here, which is in favour of drafts;
- from both, the rewards a CPU second with the best of all these drafts, prompts included. A batch of transformers
  reads as many tokens as its longest draft has, and goes on until its longest reply is done. "Free" stands for an
  engine that reads prompts and drafts at no cost: no machine gains more by these drafts.

Last, what can be had today: both libraries draft from the prompt. How many greedy replies differ because several
tokens are verified at once is said beside it.

Run `python bench/drafting.py` (needs the extras "local" and "hf" and the default model). The variable
FLIP_BENCH_REPLIES names a JSONL file such as `flip-reward score -o` writes, with an instruction, a response, an
inferred_instruction and a reward in each row, in place of replies to examples/.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from itertools import count, pairwise, product, takewhile, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure, report
from flip_reward import FlipOptions, FlipReward, Group, Sampling
from flip_reward.data.groups import read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import InvalidRow
from flip_reward.data.shapes import Shape
from flip_reward.engines.files import locate_model
from flip_reward.engines.huggingface.loading import HfModel, load_hf_model
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine

if TYPE_CHECKING:
    from xllamacpp import Server

EXAMPLES = Path(__file__).parents[1] / "examples/responses.jsonl"
REPLIES = os.environ.get("FLIP_BENCH_REPLIES")
MAX_TOKENS = 64
BATCHES = (1, 4, 16)
"""Of transformers, whose engine computes about 16 such rows together on a CPU."""
WIDTHS = (1, 2, 4, 8, 17)
"""How many tokens a measured pass reads; in between the cost is a straight line."""
PREFIX = [1000 + (7919 * position) % 40_000 for position in range(256)]
ROUNDS = 3
OWN_DRAFTS = 12
"""How many replies are written with the drafts of both libraries."""
LONGEST = 0
"""Stands for the longest match in place of a number of tokens."""


class Source(StrEnum):
    """Where drafts are taken from."""

    INSTRUCTION = "instruction"
    RESPONSE = "response"
    BOTH = "instruction or response"


@dataclass(frozen=True, slots=True)
class Draft:
    """What is drafted: how many tokens, and after how many tokens that occur in the source."""

    source: Source
    match: int
    length: int

    def __str__(self) -> str:
        after = f"after {self.match} tokens" if self.match else "at first and after any match"
        return f"{self.source}, {after}, {self.length} drafted"

    def propose(self, said: list[int], source: list[int]) -> list[int]:
        """Return the tokens to verify after those that were said."""
        if not said:
            return [] if self.match else source[: self.length]
        for match in range(min(len(said), 8), 0, -1) if self.match == LONGEST else [self.match]:
            last = said[-match:]
            for start in range(len(source) - match) if len(last) == match else ():
                if source[start : start + match] == last:
                    return source[start + match : start + match + self.length]
        return []

    def replay(self, reply: list[int], source: list[int]) -> list[int]:
        """Return how many tokens each pass reads; one of them is the last that was said, the others are drafted."""
        widths, said = [], 0
        while said < len(reply):
            proposed = self.propose(reply[:said], source)
            pairs = zip(proposed, reply[said:], strict=False)
            widths.append(1 + len(proposed))
            said += 1 + len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        return widths


LENGTHS = (2, 4, 16)
DRAFTS = [
    *[Draft(Source.INSTRUCTION, match, length) for match, length in product((1, 2, 3, LONGEST), LENGTHS)],
    *[Draft(source, 2, length) for source, length in product((Source.RESPONSE, Source.BOTH), LENGTHS)],
]


@dataclass(frozen=True, slots=True)
class Reply:
    """A greedy reply with the token that ends it, and how many tokens each pass would have read."""

    reward: float
    prompt_tokens: int
    tokens: list[int]
    passes: dict[Draft | None, list[int]] = field(default_factory=dict)

    def replay(self, instruction: list[int], response: list[int]) -> None:
        """Replay the reply with every draft, and with none."""
        sources = {
            Source.INSTRUCTION: instruction, Source.RESPONSE: response, Source.BOTH: instruction + response
        }  # fmt: skip
        self.passes.update({draft: draft.replay(self.tokens, sources[draft.source]) for draft in DRAFTS})
        self.passes[None] = [1] * len(self.tokens)


@dataclass(frozen=True, slots=True)
class Costs:
    """The CPU seconds that an engine takes for a pass over a batch, and for a token of a prompt in each sequence."""

    engine: str
    sequences: int
    passes: dict[int, float]
    prompt_token: float

    def of(self, width: int) -> float:
        low, high = next((pair for pair in pairwise(WIDTHS) if width <= pair[1]), WIDTHS[-2:])
        slope = (self.passes[high] - self.passes[low]) / (high - low)
        return self.passes[low] + slope * (width - low)

    def seconds(self, replies: Sequence[Reply], draft: Draft | None = None) -> float:
        """Return how long all replies take; what is read in the first pass belongs to the prompt."""
        total = 0.0
        for start in range(0, len(replies), self.sequences):
            batch = replies[start : start + self.sequences]
            first, *others = zip_longest(*[reply.passes[draft] for reply in batch], fillvalue=0)
            prompt = max(reply.prompt_tokens for reply in batch) + max(first) - 1
            total += prompt * self.prompt_token + sum(self.of(max(widths)) for widths in others)
        return total


@dataclass(frozen=True, slots=True)
class Row:
    """A response, and what was inferred from it."""

    instruction: str
    response: str
    inferred_instruction: str
    reward: float


def read_groups() -> list[Group]:
    rows = read_sources([open_input(str(EXAMPLES))], Shape())
    return [row.group for row in rows if not isinstance(row, InvalidRow)]


def read_rows() -> list[Row]:
    """Read what was inferred, or have the default model infer the instructions of examples/."""
    names = [one.name for one in fields(Row)]
    if REPLIES:
        with Path(REPLIES).open(encoding="utf-8") as file:
            rows = [[row.get(name) for name in names] for row in map(json.loads, file)]
        return [Row(*values) for values in rows if None not in values]
    file_of_model = locate_model("embedded")
    engine = EmbeddedEngine(file_of_model.path, adapter_path=file_of_model.adapter, context_tokens=1024)
    reward = FlipReward(engine, FlipOptions("tuned", sampling=Sampling(max_tokens=MAX_TOKENS)))
    groups = read_groups()
    scores = asyncio.run(reward.score(groups))
    engine.close()
    return [
        Row(reward.select_target(group).instruction, response, score.inferred_instruction, score.value)
        for group, several in zip(groups, scores, strict=True)
        for response, score in zip(group.responses, several, strict=True)
        if score.value is not None and score.inferred_instruction is not None
    ]


def render_prompt(model: HfModel, instruction: str, response: str) -> str:
    [request] = FlipReward(None, FlipOptions("tuned")).render(Group.of(instruction, response))
    messages = [{"role": one.role, "content": one.content} for one in request.messages] if request else []
    return str(model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def replay_rows(model: HfModel, rows: Sequence[Row]) -> list[Reply]:
    """Replay every reply with every draft."""

    def encode(text: str) -> list[int]:
        return list(model.tokenizer(text.strip(), add_special_tokens=False).input_ids)

    replies, end = [], [model.tokenizer.eos_token_id]
    for row in rows:
        prompt = encode(render_prompt(model, row.instruction, row.response))
        replies.append(Reply(row.reward, len(prompt), encode(row.inferred_instruction) + end))
        replies[-1].replay(encode(row.instruction) + end, encode(row.response))
    return replies


def start_llama(drafted: int = 0) -> Server:
    """Load the default model; with `drafted` llama.cpp drafts as many tokens after two that occurred before."""
    import xllamacpp

    file = locate_model("embedded")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file.path)
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(file.adapter), 1.0)]
    parameters.n_parallel, parameters.n_ctx, parameters.verbosity = 1, 1024, -1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if drafted:
        parameters.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        parameters.speculative.ngram_simple.size_n, parameters.speculative.ngram_simple.size_m = 2, drafted
    with tempfile.TemporaryDirectory() as folder:
        parameters.hostnames = [f"{folder}/llama.sock"]
        server = xllamacpp.Server(parameters)
    server.handle_completions({"prompt": " ", "max_tokens": 1})
    return server


def take_time(compute: Callable[[], object]) -> float:
    """Return the CPU seconds that something takes in all threads of this process."""
    started = time.process_time()
    compute()
    return time.process_time() - started


def measure_llama() -> Costs:
    server = start_llama()
    numbers = count(1)

    def read(width: int) -> None:
        """Read some tokens behind the same ones as before."""
        number = next(numbers)
        new = [1000 + (31 * number + position) % 40_000 for position in range(width)]
        server.handle_completions({"prompt": PREFIX + new, "max_tokens": 1, "temperature": 0, "cache_prompt": True})

    prompt = take_time(lambda: read(1)) / len(PREFIX)
    passes = {width: statistics.median(take_time(lambda: read(width)) for _ in range(ROUNDS)) for width in WIDTHS}  # noqa: B023
    return Costs("llama.cpp", 1, passes, prompt)


def measure_transformers(model: HfModel, sequences: int) -> Costs:
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.network.config)

    @torch.inference_mode()
    def read(width: int) -> None:
        ids = torch.tensor([PREFIX[:width]] * sequences)
        keep = 1 if width == len(PREFIX) else 0  # drafted tokens need all logits, a prompt those of its last token
        model.network(input_ids=ids, use_cache=True, cache=cache, logits_to_keep=keep)

    def take(width: int) -> float:
        seconds = take_time(lambda: read(width))
        cache.crop(-width)
        return seconds

    prompt = min(take(len(PREFIX)) for _ in range(2)) / len(PREFIX)  # the first may make what is made once
    read(len(PREFIX))
    passes = {width: statistics.median(take(width) for _ in range(ROUNDS)) for width in WIDTHS}
    return Costs("transformers", sequences, passes, prompt)


def ask_llama(prompts: Sequence[str], drafted: int) -> tuple[float, list[str]]:
    server = start_llama(drafted)
    started = time.process_time()
    replies = []
    for prompt in prompts:
        request = {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0, "cache_prompt": False}
        replies.append(str(server.handle_completions(request)["choices"][0]["text"]))
    return len(prompts) / (time.process_time() - started), replies


def ask_transformers(model: HfModel, prompts: Sequence[str], drafted: int) -> tuple[float, list[str]]:
    from transformers import GenerationConfig

    ends = model.tokenizer.eos_token_id
    options = {"prompt_lookup_num_tokens": drafted, "max_matching_ngram_size": 2} if drafted else {}
    config = GenerationConfig(
        do_sample=False, max_new_tokens=MAX_TOKENS, eos_token_id=ends, pad_token_id=ends, **options
    )
    started = time.process_time()
    replies = []
    for prompt in prompts:
        ids = model.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        output = model.network.generate(**ids, generation_config=config)
        replies.append(str(model.tokenizer.decode(output[0, ids.input_ids.shape[1] :])))
    return len(prompts) / (time.process_time() - started), replies


def in_quarters(replies: Sequence[Reply]) -> Iterator[tuple[str, list[Reply]]]:
    yield "all", list(replies)
    for quarter in range(4):
        some = [reply for reply in replies if min(3, int(4 * reply.reward)) == quarter]
        if some:
            yield f"{quarter / 4:.2f} to {quarter / 4 + 0.25:.2f}", some


def estimate(replies: Sequence[Reply]) -> Iterator[Figure]:
    """Say how many tokens a pass makes with each draft, and with the most of them by reward."""

    def count_right(some: Sequence[Reply], draft: Draft) -> tuple[float, float]:
        """Return tokens a pass, and the share of drafted tokens that are right."""
        passes = [width for reply in some for width in reply.passes[draft]]
        tokens = sum(len(reply.tokens) for reply in some)
        return tokens / len(passes), (tokens - len(passes)) / max(1, sum(passes) - len(passes))

    for draft in DRAFTS:
        rate, right = count_right(replies, draft)
        name = f"from the {draft}, {right:.0%} right"
        yield Figure(name, rate, "tokens a pass", 1.0, round(rate, 2), "no draft")
    known = [draft for draft in DRAFTS if draft.source is Source.INSTRUCTION]
    best = max(known, key=lambda draft: count_right(replies, draft)[0])
    for name, some in in_quarters(replies):
        rate, _ = count_right(some, best)
        label = f"from the {best}, rewards {name}, {len(some)} replies"
        yield Figure(label, rate, "tokens a pass", 1.0, round(rate, 2), "no draft")


def limit_gains(replies: Sequence[Reply]) -> Iterator[Figure]:
    """Say what batches would gain if neither prompts nor drafts cost anything."""
    for sequences in BATCHES:
        free = Costs("free", sequences, dict.fromkeys(WIDTHS, 1.0), 0.0)
        plain = free.seconds(replies)
        for source in (Source.INSTRUCTION, Source.BOTH):
            drafted = min(free.seconds(replies, one) for one in DRAFTS if one.source is source)
            name = f"free, {sequences} at once, from the {source}"
            yield Figure(name, drafted, "passes", plain, round(plain / drafted, 2), "no draft")


def compute_gains(costs: Costs, replies: Sequence[Reply]) -> Iterator[Figure]:
    """Say what passes cost, and what the best draft would gain with these costs, by reward."""
    which = f"{costs.engine}, {costs.sequences} at once"
    several = {f"a pass of {width} tokens": costs.of(width) for width in WIDTHS[1:]}
    for what, seconds in {**several, "a token of a prompt": costs.prompt_token}.items():
        one = costs.of(1)
        yield Figure(
            f"{which}, {what}", 1000 * seconds, "ms", 1000 * one, round(one / seconds, 2), "a pass of 1 token"
        )
    for name, some in in_quarters(replies):
        plain = costs.seconds(some)
        best = min(DRAFTS, key=lambda draft: costs.seconds(some, draft))
        drafted = costs.seconds(some, best)
        label = f"{which}, rewards {name}: {best}, estimated"
        rates = len(some) / drafted, len(some) / plain
        yield Figure(label, rates[0], "rewards/CPU s", rates[1], round(plain / drafted, 2), "no draft")


def try_own_drafts(model: HfModel, rows: Sequence[Row]) -> Iterator[Figure]:
    """Run what both libraries have: drafts from the prompt, which holds the response but not the instruction."""
    prompts = [render_prompt(model, row.instruction, row.response) for row in rows]
    asks: dict[str, Callable[[int], tuple[float, list[str]]]] = {
        "llama.cpp": lambda drafted: ask_llama(prompts, drafted),
        "transformers": lambda drafted: ask_transformers(model, prompts, drafted),
    }
    for name, ask in asks.items():
        (plain, replies), (drafted, others) = ask(0), ask(4)
        label = f"{name}, its own drafts from the response"
        yield Figure(label, drafted, "rewards/CPU s", plain, round(drafted / plain, 2), "no draft")
        differing = sum(one != other for one, other in zip(replies, others, strict=True))
        yield Figure(f"{label}, replies that differ", differing, f"of {len(prompts)}")


def measure() -> Iterator[Figure]:
    """Estimate, measure the costs, and put both together."""
    import torch

    torch.set_num_threads(1)
    model, rows = load_hf_model("embedded"), read_rows()
    replies = replay_rows(model, rows)
    yield from estimate(replies)
    yield from limit_gains(replies)
    yield from compute_gains(measure_llama(), replies)
    for sequences in BATCHES:
        yield from compute_gains(measure_transformers(model, sequences), replies)
    yield from try_own_drafts(model, rows[:OWN_DRAFTS])


if __name__ == "__main__":
    report(measure, "Drafting replies from their instruction: an estimate, and the cost of a pass.")
