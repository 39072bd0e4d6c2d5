"""Engines in this process on the same prompts and tokens: FLIP and backward likelihood for a second of one CPU.

The model is SmolLM2-135M-Instruct from one file in Q4_1, without an adapter; the rows are the example responses;
FLIP takes the template `compact` and at most 48 new tokens, greedily. Each engine runs in a process of its own with
one thread, and CPU time counts, which hardly depends on what else runs; loading does not count. Ours is the embedded
engine. Beside it:

- llama.cpp with 4 and 8 parallel sequences in one context: its own batching, flash attention and prompt cache;
- transformers, which `transformers:NAME` runs: the same weights in bfloat16 and in float32;
- OpenVINO GenAI, which `openvino:NAME` runs: the weights in Q8_0. How many of its replies depend on what else is
  computed is reported too; and beside it, the same pipeline fed with all tokens at once, in a plain loop.

Engines round differently, so greedy replies differ: counted are those that are not ours. Likelihoods are compared by
the mean log-probability of a token.

Run `python bench/in_process.py` (needs the extras "openvino" and "hf", and the default model).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

from embedded import CONTEXT_TOKENS, MAX_TOKENS, MODEL, make_body, read_groups, render, start_direct
from figures import Figure, report
from flip_reward.engines.base import Engine, LogprobRequest, Request
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.llama_cpp.engine import DEFAULT_CONTEXT_TOKENS, EmbeddedEngine
from flip_reward.engines.llama_cpp.text import GgufPromptTokenizer
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.engines.openvino.engine import CACHE_TOKENS, OpenVinoEngine, load_pipeline
from flip_reward.engines.openvino.weights import default_weights_folder, locate_weights
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward

EVERY = 2
ENGINES = (
    "embedded",
    "llama.cpp, 4 sequences",
    "llama.cpp, 8 sequences",
    "bfloat16",
    "float32",
    "openvino",
    "fed directly",
)
UNIT = "rewards a CPU second"


class Peer(Protocol):
    """What is measured of an engine."""

    def infer(self, requests: Sequence[Request]) -> list[str]:
        """Answer requests."""

    def score(self, requests: Sequence[LogprobRequest]) -> list[float] | None:
        """Return the mean log-probability of each continuation; None where that is not measured."""


@dataclass
class Ours:
    """An engine of this package."""

    engine: Engine

    def infer(self, requests: Sequence[Request]) -> list[str]:
        async def ask() -> list[str]:
            return [str(reply.text) for reply in await asyncio.gather(*map(self.engine.complete, requests))]

        return asyncio.run(ask())

    def score(self, requests: Sequence[LogprobRequest]) -> list[float] | None:
        async def ask() -> list[float]:
            answers = await asyncio.gather(*map(self.engine.logprobs, requests))
            return [sum(answer.values) / len(answer.values) for answer in answers]

        return asyncio.run(ask())


class ParallelSequences:
    """llama.cpp's server object, fed from as many threads as it has sequences."""

    def __init__(self, sequences: int) -> None:
        self.server = start_direct(MODEL, sequences=sequences, threads=1)
        self.threads = ThreadPoolExecutor(sequences)

    def infer(self, requests: Sequence[Request]) -> list[str]:
        return list(self.threads.map(self._ask, requests))

    def score(self, requests: Sequence[LogprobRequest]) -> list[float] | None:
        """It scores no given tokens; our engine makes it generate them, which is what is measured there."""

    def _ask(self, request: Request) -> str:
        answer = self.server.handle_chat_completions(make_body(request))
        return str(answer["choices"][0]["message"]["content"])


class OpenVino:
    """The pipeline of our OpenVINO engine, fed with everything at once."""

    def __init__(self) -> None:
        weights = locate_weights(GgufFile.read(MODEL), MODEL.name, None, default_weights_folder())
        self.pipeline = load_pipeline(weights, MODEL.name, 1, CACHE_TOKENS, DEFAULT_CONTEXT_TOKENS)
        self.texts = self.pipeline.get_tokenizer()
        self.tokens = GgufPromptTokenizer(MODEL, {})

    def infer(self, requests: Sequence[Request]) -> list[str]:
        prompts = [self.tokens.encode(request.messages) for request in requests]
        answers = self._run(prompts, max_new_tokens=MAX_TOKENS, stop_token_ids={self.texts.get_eos_token_id()})
        return [self.texts.decode(ids) for ids, _ in answers]

    def score(self, requests: Sequence[LogprobRequest]) -> list[float] | None:
        texts = [self.tokens.split(request) for request in requests]
        answers = self._run([text.tokens for text in texts], max_new_tokens=0, echo=True, logprobs=1)
        return [sum(values[-text.scored :]) / text.scored for (_, values), text in zip(answers, texts, strict=True)]

    def _run(self, prompts: Sequence[list[int]], **options: object) -> list[tuple[list[int], list[float]]]:
        import numpy as np
        import openvino
        import openvino_genai

        config = openvino_genai.GenerationConfig(**options)
        handles = [
            self.pipeline.add_request(number, openvino.Tensor(np.array([prompt])), config)
            for number, prompt in enumerate(prompts)
        ]
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        outputs = [handle.read_all()[0] for handle in handles]
        return [(list(output.generated_ids), list(output.generated_log_probs)) for output in outputs]


def load_peer(name: str) -> Peer:
    if name == "embedded":
        return Ours(EmbeddedEngine(MODEL, slots=1, threads=1, context_tokens=CONTEXT_TOKENS))
    if name.startswith("llama.cpp"):
        return ParallelSequences(int(name.split()[1]))
    if name == "openvino":
        return Ours(OpenVinoEngine(MODEL, threads=1))
    return OpenVino() if name == "fed directly" else Ours(TransformersEngine("smollm2-135m", dtype=name))


@dataclass(frozen=True, slots=True)
class Speeds:
    """Rewards for a second of a CPU, and the answers."""

    flip: float
    replies: list[str]
    likelihood: float | None
    means: list[float] | None
    depending: int
    """Of OpenVINO alone: how many replies are others where each prompt is asked alone."""


def take_speeds(name: str) -> None:
    """Measure an engine in this process, after a few rows that warm it up."""
    groups = read_groups()
    likelihood = BackwardLikelihoodReward(None)
    prompts = render(groups)[::EVERY]
    texts = [request for group in groups for request in likelihood.render(group) if request is not None][::EVERY]
    peer = load_peer(name)
    peer.infer(prompts[-2:])
    peer.score(texts[-2:])
    started = time.process_time()
    replies = peer.infer(prompts)
    inferred = time.process_time()
    means = peer.score(texts)
    scored = time.process_time()
    rate = None if means is None else len(texts) / (scored - inferred)
    depending = 0
    if name == "openvino":
        depending = sum(peer.infer([prompt]) != [reply] for prompt, reply in zip(prompts, replies, strict=True))
    print(json.dumps([len(prompts) / (inferred - started), replies, rate, means, depending]))


def in_fresh_process(name: str) -> Speeds:
    command = [sys.executable, __file__, "--take", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # of transformers
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return Speeds(*json.loads(finished.stdout.splitlines()[-1]))


def measure() -> Iterator[Figure]:
    """Measure every engine, and put the embedded one beside it."""
    speeds = {name: in_fresh_process(name) for name in ENGINES}
    ours, openvino, direct = (speeds[name] for name in ("embedded", "openvino", "fed directly"))
    for name in ENGINES[1:-1]:
        beside = f"transformers, {name}" if name.endswith(("16", "32")) else name
        if name == "openvino":
            beside = "OpenVINO GenAI " + version("openvino-genai")
            yield Figure(f"replies that depend on the batch, {beside}", openvino.depending, f"of {len(ours.replies)}")
        yield from put_beside("", ours, speeds[name], beside)
    yield from put_beside(", openvino:NAME", openvino, direct, "the same pipeline fed directly")


def put_beside(what: str, ours: Speeds, theirs: Speeds, beside: str) -> Iterator[Figure]:
    yield Figure("FLIP" + what, ours.flip, UNIT, theirs.flip, ours.flip / theirs.flip, beside)
    differing = sum(one != other for one, other in zip(theirs.replies, ours.replies, strict=True))
    yield Figure(f"replies that differ from ours, {beside}", differing, f"of {len(ours.replies)}")
    if theirs.likelihood is None or theirs.means is None or ours.likelihood is None or ours.means is None:
        return
    ratio = ours.likelihood / theirs.likelihood
    yield Figure("backward likelihood" + what, ours.likelihood, UNIT, theirs.likelihood, ratio, beside)
    apart = max(abs(one - other) for one, other in zip(theirs.means, ours.means, strict=True))
    yield Figure(f"largest difference of a mean log-probability, {beside}", apart, "nats")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--take"]:
        take_speeds(sys.argv[2])
    else:
        report(measure, "FLIP and likelihood by engines in this process, for a second of one CPU.")
