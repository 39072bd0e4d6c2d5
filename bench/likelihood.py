"""Backward likelihood on the transformers engine: beside generated FLIP, one row at a time, and full logits.

- Backward likelihood beside generated FLIP: the same model, engine and rows, template `compact`, 48 new tokens.
- Micro-batches beside one request after the other.
- Texts of the rows above, eight times as long, that are tokenized at once as the engine does, beside one after the
  other: fast tokenizers take all processors for a batch.
- Log-probabilities projected at the scored positions only, beside the whole logits of the same batch: 8 texts of 512
  tokens of which 32 are scored. Peak memory is how far the process grows while it computes.

Run `python bench/likelihood.py` (needs the extras "local" and "hf", the default model and psutil).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from figures import Figure, report
from flip_reward import FlipOptions, FlipReward, Group, RewardModel, Sampling
from flip_reward.data.groups import read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import InvalidRow
from flip_reward.data.shapes import Shape
from flip_reward.engines.base import LogprobRequest
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.huggingface.loading import load_hf_model
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXAMPLES = Path(__file__).parents[1] / "examples/responses.jsonl"
MODEL = "smollm2-135m"
ROUNDS = 3
TEXTS, TOKENS, SCORED = 8, 512, 32


def read_groups() -> list[Group]:
    rows = read_sources([open_input(str(EXAMPLES))], Shape())
    groups = [row.group for row in rows if not isinstance(row, InvalidRow)]
    return [group.only([index]) for group in groups for index in range(len(group.responses))]


def rewards_a_second(reward: RewardModel, groups: Sequence[Group]) -> float:
    started = time.perf_counter()
    scores = asyncio.run(reward.score(groups))
    return sum(score.cost.attempts for group in scores for score in group) / (time.perf_counter() - started)


def one_by_one(reward: RewardModel, groups: Sequence[Group]) -> float:
    async def score() -> int:
        return sum([(await reward.score_group(group)).scores[0].cost.attempts for group in groups])

    started = time.perf_counter()
    asked = asyncio.run(score())
    return asked / (time.perf_counter() - started)


def compare(name: str, unit: str, ours: Callable[[], float], theirs: Callable[[], float], beside: str) -> Figure:
    """Measure both by turns; more is better."""
    rounds = [(ours(), theirs()) for _ in range(ROUNDS)]
    return Figure(
        name,
        round(statistics.median(one for one, _ in rounds), 3),
        unit,
        round(statistics.median(other for _, other in rounds), 3),
        round(statistics.median(one / other for one, other in rounds), 2),
        beside,
    )


def texts_a_second(groups: Sequence[Group], split: Callable[[list[LogprobRequest]], object]) -> float:
    """Tokenize the questions about long responses."""
    likelihood = BackwardLikelihoodReward(None)
    long = [replace(group, responses=tuple(8 * response for response in group.responses)) for group in groups]
    questions = [one for group in long for one in likelihood.render(group) if one is not None]
    started = time.perf_counter()
    split(questions)
    return len(questions) / (time.perf_counter() - started)


def project_scored(network: PreTrainedModel, texts: list[list[int]]) -> None:
    from flip_reward.engines.huggingface.inference import score_rows
    from flip_reward.engines.huggingface.text import ScoredRow

    score_rows(network, [ScoredRow(tokens, SCORED) for tokens in texts])


def project_all(network: PreTrainedModel, texts: list[list[int]]) -> None:
    import torch

    with torch.inference_mode():
        ids = torch.tensor(texts)
        logprobs = network(input_ids=ids).logits.float().log_softmax(dim=-1)
        logprobs[:, :-1].gather(2, ids[:, 1:, None])[:, -SCORED:, 0].tolist()


def take_time_and_memory(name: str, results: multiprocessing.SimpleQueue[tuple[float, float]]) -> None:
    """Compute a batch in this fresh process, and tell the seconds and the bytes it took beyond the loaded model."""
    compute = {"scored": project_scored, "all": project_all}[name]
    network = load_hf_model(MODEL).network
    texts = [[(7 * text + 13 * position) % 40_000 for position in range(TOKENS)] for text in range(TEXTS)]
    compute(network, [tokens[:64] for tokens in texts])  # what is loaded at the first use
    memory = psutil.Process().memory_info
    before, peak, done = memory().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, memory().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        compute(network, texts)
        seconds.append(time.perf_counter() - started)
    done.set()
    watcher.join()
    results.put((statistics.median(seconds), peak - before))


def in_fresh_process(name: str) -> tuple[float, float]:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[tuple[float, float]] = context.SimpleQueue()
    process = context.Process(target=take_time_and_memory, args=(name, results))
    process.start()
    process.join()
    return results.get()


def measure() -> Iterator[Figure]:
    """Measure everything, each beside its peer."""
    groups = read_groups()
    engine = TransformersEngine(MODEL)
    likelihood = BackwardLikelihoodReward(engine)
    flip = FlipReward(engine, FlipOptions("compact", sampling=Sampling(max_tokens=48)))
    rewards_a_second(likelihood, groups)  # what is loaded at the first use
    yield compare(
        "backward likelihood",
        "rewards/s",
        lambda: rewards_a_second(likelihood, groups),
        lambda: rewards_a_second(flip, groups),
        "generated FLIP",
    )
    for name, reward in (("backward likelihood", likelihood), ("generated FLIP", flip)):
        yield compare(
            f"{name}, in batches",
            "rewards/s",
            lambda reward=reward: rewards_a_second(reward, groups),  # type: ignore[misc]
            lambda reward=reward: one_by_one(reward, groups),  # type: ignore[misc]
            "one by one",
        )
    text = engine.text
    yield compare(
        "tokenizing, at once",
        "texts/s",
        lambda: texts_a_second(groups, text.split_all),
        lambda: texts_a_second(groups, lambda questions: list(map(text.split, questions))),
        "one by one",
    )
    engine.close()
    (seconds, memory), (all_seconds, all_memory) = in_fresh_process("scored"), in_fresh_process("all")
    yield Figure(
        "time, scored positions only", round(seconds, 3), "s", round(all_seconds, 3),
        round(all_seconds / seconds, 2), "full logits",
    )  # fmt: skip
    yield Figure(
        "peak memory, scored positions only", round(memory / 1e6, 1), "MB", round(all_memory / 1e6, 1),
        round(all_memory / memory, 2), "full logits",
    )  # fmt: skip


if __name__ == "__main__":
    report(measure, "Backward likelihood: speed and memory.")
