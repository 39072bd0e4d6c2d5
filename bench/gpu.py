"""The transformers engine on a GPU, beside what the GPU can do: backward likelihood and generated FLIP.

The model is random, of the shape of Qwen3-0.6B, in bfloat16: speed does not depend on the weights. Responses have
600 tokens, each another one. The limits are measured in the same run: a product of two large matrices, and a copy.

- Likelihood reads: it is bound by arithmetic. A token takes 2 operations a weight of the layers, and
  4 x layers x heads x head size x the tokens before it (half the length on average) for attention. The vocabulary
  projection counts at the scored positions only.
- Generation reads the weights and the cache of keys and values once for every new token: it is bound by memory.
  A step takes (weights + rows x length x layers x 2 x KV heads x head size) x 2 bytes.

- A step of generation with a static cache, which transformers compiles into CUDA graphs, beside a step with the cache
  that grows, as the engine has it: the same prompts, without sampling; and how many replies differ.
- Tokenizing many texts at once, as the engine does, beside one after the other.

Run `python bench/gpu.py` (needs the extra "hf"; `--tiny` tries it on a CPU). `python bench/run_all.py gpu` writes the
figures into bench/RESULTS.md. Compiling for the static cache takes minutes; to know the rest first, `--no-graphs`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from figures import Figure, report
from flip_reward import FlipOptions, FlipReward, Group, RewardModel, Sampling
from flip_reward.engines.base import LogprobRequest
from flip_reward.engines.huggingface.compiling import CompiledLayers
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.huggingface.inference import score_rows
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward

TINY = "--tiny" in sys.argv
GRAPHS = "--no-graphs" not in sys.argv
sys.argv = [one for one in sys.argv if one not in ("--tiny", "--no-graphs")]
SHAPE = (
    {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
     "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 4096}
    if TINY
    else {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
          "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
)  # fmt: skip
DEVICE = "cpu" if TINY else "cuda"
RESPONSE_TOKENS, NEW_TOKENS = (40, 4) if TINY else (600, 48)
GROUPS = 16 if TINY else 2048
ROUNDS = 2 if TINY else 3
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = [f"{a}{b}{c}" for a in ("ba", "de", "fi", "go", "lu") for b in ("mar", "nes", "tol", "vik") for c in "aeiou"]


def save_model(folder: Path) -> str:
    """Save a random model and a tokenizer that has each of `WORDS` as one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([" " + " ".join(WORDS)] * 8, trainer)
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    saved.chat_template = CHAT
    saved.save_pretrained(folder)
    torch.manual_seed(0)
    with torch.device(DEVICE):
        config = Qwen3Config(**SHAPE, tie_word_embeddings=True, max_position_embeddings=4096, eos_token_id=1)
        network = Qwen3ForCausalLM(config).to(torch.bfloat16)
    network.save_pretrained(folder)
    return str(folder)


def make_groups(seed: int, count: int = GROUPS) -> list[Group]:
    draw = random.Random(seed)
    return [
        Group.of(" ".join(draw.choices(WORDS, k=16)), " ".join(draw.choices(WORDS, k=RESPONSE_TOKENS)))
        for _ in range(count)
    ]


def settle() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds_of(reward: RewardModel, groups: Sequence[Group], in_flight: int) -> float:
    """Score groups with so many of them in flight."""

    async def score() -> None:
        waiting = iter(groups)

        async def work() -> None:
            for group in waiting:
                [score] = (await reward.score_group(group)).scores
                if score.cost.usage.prompt_tokens == 0:
                    raise AssertionError(score.detail or score.outcome)

        await asyncio.gather(*(work() for _ in range(in_flight)))

    settle()
    started = time.perf_counter()
    asyncio.run(score())
    settle()
    return time.perf_counter() - started


def fastest(reward: RewardModel, in_flight: int, count: int) -> float:
    """Rewards a second, the best of a few rounds over new texts."""
    seconds_of(reward, make_groups(999, min(count, 64)), in_flight)
    return count / min(seconds_of(reward, make_groups(number, count), in_flight) for number in range(ROUNDS))


@dataclass(frozen=True)
class Limits:
    """What the device does at best."""

    operations: float
    """A second, in bfloat16."""
    bytes: float
    """Read and written a second."""


def measure_limits() -> Limits:
    size = 256 if TINY else 8192
    one, other = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty((1 << 20) if TINY else (1 << 32), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)

    def best(work: object) -> float:
        found = []
        for _ in range(8):
            settle()
            started = time.perf_counter()
            work()  # type: ignore[operator]
            settle()
            found.append(time.perf_counter() - started)
        return min(found)

    return Limits(2 * size**3 / best(lambda: one @ other), 2 * source.numel() / best(lambda: target.copy_(source)))


def layer_weights() -> int:
    hidden, heads, kv, size = (
        SHAPE[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    )
    attention = hidden * size * (2 * heads + 2 * kv)
    return SHAPE["num_hidden_layers"] * (attention + 3 * hidden * SHAPE["intermediate_size"])


def reading_operations(tokens: float, scored: float) -> float:
    heads = SHAPE["num_attention_heads"] * SHAPE["head_dim"]
    attention = 4 * SHAPE["num_hidden_layers"] * heads * tokens * tokens / 2
    return 2 * layer_weights() * tokens + attention + 2 * SHAPE["hidden_size"] * SHAPE["vocab_size"] * scored


def step_bytes(rows: float, tokens: float) -> float:
    weights = layer_weights() + SHAPE["hidden_size"] * SHAPE["vocab_size"]
    cache = rows * tokens * SHAPE["num_hidden_layers"] * 2 * SHAPE["num_key_value_heads"] * SHAPE["head_dim"]
    return 2 * (weights + cache)


def average_tokens(reward: RewardModel) -> float:
    scores = asyncio.run(reward.score(make_groups(7, 16)))
    return sum(score.cost.usage.prompt_tokens for [score] in scores) / len(scores)


def compare_layers(engine: TransformersEngine, likelihood: RewardModel, limits: Limits) -> Figure:
    """Read one batch with the layers compiled and as they are."""
    network = engine.loaded.network
    questions = [likelihood.render(group)[0] for group in make_groups(5, 8 if TINY else 96)]
    rows = [engine.text.split(question) for question in questions if isinstance(question, LogprobRequest)]
    operations = sum(reading_operations(len(row.tokens), row.scored) for row in rows)
    compiled = CompiledLayers(network, after_tokens=0)

    def share(run: Callable[[Callable[[], object]], object]) -> float:
        seconds = []
        for _ in range(4):
            settle()
            started = time.perf_counter()
            run(lambda: score_rows(network, rows))
            settle()
            seconds.append(time.perf_counter() - started)
        return operations / limits.operations / min(seconds)

    ours, eager = share(lambda work: compiled.run(work, 1)), share(lambda work: work())
    return Figure(
        f"share of the roofline, a batch of {len(rows)} rows read", round(ours, 3), "of 1", round(eager, 3),
        round(ours / eager, 2), "layers not compiled",
    )  # fmt: skip


def compare_caches(network: PreTrainedModel, rows: int) -> Iterator[Figure]:
    """Generate with a cache of a fixed size, and with one that grows."""
    torch.manual_seed(0)
    prompts = torch.randint(2, SHAPE["vocab_size"], (rows, RESPONSE_TOKENS + 150), device=DEVICE)

    def generate(tokens: int, implementation: str | None) -> torch.Tensor:
        config = GenerationConfig(
            max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0,
            cache_implementation=implementation,
        )  # fmt: skip
        output: torch.Tensor = network.generate(prompts, generation_config=config)
        return output[:, prompts.shape[1] :]

    def step(implementation: str | None) -> tuple[float, torch.Tensor]:
        generate(NEW_TOKENS, implementation)  # compiles
        seconds = []
        for tokens in (1, NEW_TOKENS):
            settle()
            started = time.perf_counter()
            replies = generate(tokens, implementation)
            settle()
            seconds.append(time.perf_counter() - started)
        return 1000 * (seconds[1] - seconds[0]) / (NEW_TOKENS - 1), replies

    growing, expected = step(None)
    static, replies = step("static")
    name = f"a step of generation, {rows} rows, static cache"
    yield Figure(name, round(static, 2), "ms", round(growing, 2), round(growing / static, 2), "growing cache")
    yield Figure("replies that differ", int((replies != expected).any(dim=1).sum()), f"of {rows}")


def compare_tokenizing(engine: TransformersEngine, likelihood: RewardModel) -> Figure:
    """Tokenize many texts at once, and one after the other."""
    questions = [one for group in make_groups(6, 256) for one in likelihood.render(group)]
    requests = [one for one in questions if isinstance(one, LogprobRequest)]

    def milliseconds(split: Callable[[list[LogprobRequest]], object]) -> float:
        started = time.perf_counter()
        split(requests)
        return 1000 * (time.perf_counter() - started) / len(requests)

    ours = milliseconds(engine.text.split_all)
    theirs = milliseconds(lambda all_of: list(map(engine.text.split, all_of)))
    return Figure(
        "tokenizing a text, at once", round(ours, 3), "ms", round(theirs, 3), round(theirs / ours, 2), "one by one"
    )


def measure() -> Iterator[Figure]:
    """Measure everything, each beside its limit."""
    limits = measure_limits()
    yield Figure("limit: matrix product", round(limits.operations / 1e12, 2), "TFLOP/s")
    yield Figure("limit: copy, read and written", round(limits.bytes / 1e12, 3), "TB/s")
    with TemporaryDirectory() as folder:
        engine = TransformersEngine(save_model(Path(folder)), device=DEVICE)
    likelihood = BackwardLikelihoodReward(engine)
    flip = FlipReward(engine, FlipOptions("compact", sampling=Sampling(max_tokens=NEW_TOKENS)))
    tokens = average_tokens(likelihood)
    yield Figure("tokens of a likelihood's text", tokens, "tokens")
    yield compare_tokenizing(engine, likelihood)
    yield compare_layers(engine, likelihood, limits)
    allowed = limits.operations / reading_operations(tokens, 16)
    for in_flight in (64, 256):
        rate = fastest(likelihood, in_flight, GROUPS)
        yield Figure(
            f"backward likelihood, {in_flight} in flight", round(rate, 1), "rewards/s", round(allowed, 1),
            round(rate / allowed, 3), "roofline",
        )  # fmt: skip
    tokens = average_tokens(flip)
    yield Figure("tokens of FLIP's prompt", tokens, "tokens")
    for in_flight in (64, 256, 512):
        rate = fastest(flip, in_flight, 8 if TINY else 2 * in_flight)
        step = step_bytes(in_flight, tokens + NEW_TOKENS / 2) / limits.bytes
        whole = NEW_TOKENS * step + in_flight * reading_operations(tokens, 1) / limits.operations
        yield Figure(
            f"FLIP, {NEW_TOKENS} new tokens, {in_flight} in flight", round(rate, 1), "rewards/s",
            round(in_flight / whole, 1), round(rate * whole / in_flight, 3), "roofline",
        )  # fmt: skip
    if GRAPHS:
        for rows in (4,) if TINY else (64, 256):
            yield from compare_caches(engine.loaded.network, rows)


if __name__ == "__main__":
    report(measure, "The transformers engine on a GPU.")
