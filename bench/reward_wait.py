"""How long a training step of TRL's GRPOTrainer waits for its rewards.

A scripted engine takes 50 ms or 500 ms for each answer, behind the middleware that every engine has; a step asks for
192 rewards (24 prompts with 8 responses). The policy is a tiny random model, so that the share of the wait is an
upper bound: with a real policy the rest of the step is longer. The wait is beside the slowest single request of the
step, which nothing could be faster than, and at 50 ms beside the same rewards asked for one after the other. Files
of models and tokenizers that are opened while a step waits for its rewards are counted from the second step on.

Run `python bench/reward_wait.py`.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from typing import Any

from figures import Figure, report
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.middleware import build_stack
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.integrations.trl import TrlReward
from flip_reward.rewards.flip import FlipReward

PROMPTS, GENERATIONS, STEPS = 24, 8, 6
LATENCIES_SECONDS = (0.05, 0.5)
MODEL_FILES = ("tokenizer.json", "tokenizer_config.json", ".safetensors", ".gguf", ".bin")


class TimedEngine(ScriptedEngine):
    """Knows how long its slowest answer took since it was asked last."""

    slowest_seconds = 0.0

    async def complete(self, request: Request) -> Completion:
        """Answer, and time it."""
        started = time.perf_counter()
        completion = await super().complete(request)
        self.slowest_seconds = max(self.slowest_seconds, time.perf_counter() - started)
        return completion

    def take_slowest(self) -> float:
        """Return the slowest, and begin anew."""
        slowest, self.slowest_seconds = self.slowest_seconds, 0.0
        return slowest


class WatchedReward:
    """The reward as TRL calls it, with what each call took."""

    def __init__(self, engine: TimedEngine) -> None:
        self._engine = engine
        self._reward = TrlReward(FlipReward(build_stack(engine, concurrency=PROMPTS * GENERATIONS)))
        self.waits: list[float] = []
        self.slowest: list[float] = []
        self.opened: list[str] = []
        self._inside = False
        sys.addaudithook(self._note)

    async def __call__(self, **batch: Any) -> list[float | None]:  # noqa: ANN401 - whatever TRL passes
        """Score a batch."""
        self._inside = bool(self.waits)  # the first step loads what is only loaded once
        self._engine.take_slowest()
        started = time.perf_counter()
        rewards = await self._reward(**batch)
        self.waits.append(time.perf_counter() - started)
        self.slowest.append(self._engine.take_slowest())
        self._inside = False
        return rewards

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._inside and event == "open" and str(arguments[0]).endswith(MODEL_FILES):
            self.opened.append(str(arguments[0]))


def train(folder: Path, reward: WatchedReward) -> list[float]:
    """Train for some steps, and return how long each took."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging
    from trl import GRPOConfig, GRPOTrainer

    logging.disable_progress_bar()
    getLogger("trl").setLevel("ERROR")  # it prints a sample without a reward at each step
    prompts = [f"Name {number} fruits that grow on trees." for number in range(PROMPTS * STEPS)]
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        processing_class=AutoTokenizer.from_pretrained(folder),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder / "out"), per_device_train_batch_size=PROMPTS * GENERATIONS, bf16=False,
            num_generations=GENERATIONS, max_completion_length=16, max_steps=STEPS, logging_steps=1, use_cpu=True,
            save_strategy="no", report_to=[], disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
    )  # fmt: skip
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [entry["step_time"] for entry in trainer.state.log_history if "step_time" in entry]


async def ask_one_after_the_other(latency_seconds: float) -> float:
    """Return how long it takes without asking for anything at once."""
    reward = TrlReward(FlipReward(ScriptedEngine(latency_seconds=latency_seconds)))
    started = time.perf_counter()
    for number in range(PROMPTS * GENERATIONS):
        await reward([f"Name {number // GENERATIONS} fruits."], [f"Apples and {number} pears."])
    return time.perf_counter() - started


def measure() -> Iterator[Figure]:
    """Measure both latencies."""
    from tests.hf_models import save_model

    with tempfile.TemporaryDirectory() as name:
        folder = save_model(Path(name) / "tiny")
        for latency in LATENCIES_SECONDS:
            reward = WatchedReward(TimedEngine(latency_seconds=latency))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                times = train(folder, reward)
            waits, slowest, times = reward.waits[1:], reward.slowest[1:], times[1:]  # the first one warms up
            wait, one = statistics.median(waits), statistics.median(slowest)
            what = f"192 rewards of {latency * 1000:.0f} ms"
            yield Figure(f"{what}, wait", round(wait, 3), "s", round(one, 3), round(one / wait, 2), "slowest request")
            longest = max(wait / one for wait, one in zip(waits, slowest, strict=True))
            yield Figure(f"{what}, wait, the worst step", round(longest, 2), "slowest requests")
            share = statistics.median(wait / step for wait, step in zip(waits, times, strict=True))
            yield Figure(f"{what}, share of a tiny policy's step", round(100 * share, 1), "%")
            yield Figure(f"{what}, model files opened in a step", len(reward.opened), "files")
            if latency == LATENCIES_SECONDS[0]:
                serial = asyncio.run(ask_one_after_the_other(latency))
                yield Figure(
                    f"{what}, wait", round(wait, 3), "s", round(serial, 2), round(serial / wait, 1), "serial"
                )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for the tiny model of the tests
    report(measure, "How long a training step waits for its rewards.")
