"""Engines in this process on the same prompts and tokens: FLIP and backward likelihood for a second of one CPU.

The model is SmolLM2-135M-Instruct from one file in Q4_1, without an adapter; the rows are the example responses;
FLIP takes the template `compact` and at most 48 new tokens, greedily. Each engine runs in a process of its own with
one thread, and CPU time counts, which hardly depends on what else runs; loading does not count. Ours is the embedded
engine. Beside it:

- llama.cpp with 4 and 8 parallel sequences in one context: its own batching, flash attention and prompt cache;
- transformers, which `transformers:NAME` runs: the same weights in bfloat16 and in float32;
- OpenVINO GenAI: all prompts in one batch, and the weights of the same file in Q8_0, since it rounds the
  offsets of Q4_1. How many of its replies depend on what is in the batch is reported too.

Engines round differently, so greedy replies differ: counted are those that are not ours. Likelihoods are compared by
the mean log-probability of a token.

Run `python bench/in_process.py` (needs the extras "local" and "hf", the default model, gguf and openvino-genai).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from embedded import CONTEXT_TOKENS, MAX_TOKENS, MODEL, make_body, read_groups, render, start_direct
from figures import Figure, report
from flip_reward.engines.base import Engine, LogprobRequest, Request
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.llama_cpp.text import GgufPromptTokenizer
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward

if TYPE_CHECKING:
    from openvino_genai import ContinuousBatchingPipeline

EVERY = 2
ENGINES = ("embedded", "llama.cpp, 4 sequences", "llama.cpp, 8 sequences", "bfloat16", "float32", "OpenVINO GenAI")
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
    """OpenVINO GenAI with the tokens that llama.cpp reads."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.pipeline = self._load(Path(folder) / "model.gguf")
        self.texts = self.pipeline.get_tokenizer()
        self.tokens = GgufPromptTokenizer(MODEL, {})

    def _load(self, file: Path) -> ContinuousBatchingPipeline:
        import openvino_genai

        write_in_8_bits(MODEL, file)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1  # GB
        scheduler.max_num_batched_tokens = 4096
        scheduler.dynamic_split_fuse = False  # a prompt in pieces would be rounded as its neighbours cut it
        scheduler.enable_prefix_caching = False
        return openvino_genai.ContinuousBatchingPipeline(str(file), scheduler, "CPU", {"INFERENCE_NUM_THREADS": 1})

    def infer(self, requests: Sequence[Request]) -> list[str]:
        # As if a continuation of one token were to be scored: that gives the tokens of the prompt.
        prompts = [self.tokens.split(LogprobRequest(request.messages, "x")).tokens[:-1] for request in requests]
        answers = self._run(prompts, max_new_tokens=MAX_TOKENS, stop_token_ids={self.texts.get_eos_token_id()})
        return [self.texts.decode(ids) for ids, _ in answers]

    def score(self, requests: Sequence[LogprobRequest]) -> list[float] | None:
        texts = [self.tokens.split(request) for request in requests]
        answers = self._run([text.tokens for text in texts], max_new_tokens=1, echo=True, logprobs=1)
        ends = [(len(text.tokens) - text.scored, len(text.tokens)) for text in texts]
        return [
            sum(values[first:end]) / (end - first) for (_, values), (first, end) in zip(answers, ends, strict=True)
        ]

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


def write_in_8_bits(source: Path, target: Path) -> None:
    """Write a GGUF file's matrices in Q8_0: whole numbers of 8 bits, and a scale for each 32."""
    import gguf

    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.")):
            kinds = field.types
            writer.add_key_value(field.name, field.contents(), kinds[0], sub_type=kinds[-1] if kinds[1:] else None)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = gguf.GGMLQuantizationType.F32 if values.ndim == 1 else gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load_peer(name: str) -> Peer:
    if name == "embedded":
        return Ours(EmbeddedEngine(MODEL, slots=1, threads=1, context_tokens=CONTEXT_TOKENS))
    if name.startswith("llama.cpp"):
        return ParallelSequences(int(name.split()[1]))
    return OpenVino() if name.startswith("OpenVINO") else Ours(TransformersEngine("smollm2-135m", dtype=name))


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
    if isinstance(peer, OpenVino):
        depending = sum(peer.infer([prompt]) != [reply] for prompt, reply in zip(prompts, replies, strict=True))
    print(json.dumps([len(prompts) / (inferred - started), replies, rate, means, depending]))


def in_fresh_process(name: str) -> Speeds:
    command = [sys.executable, __file__, "--take", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # of transformers
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return Speeds(*json.loads(finished.stdout.splitlines()[-1]))


def measure() -> Iterator[Figure]:
    """Measure every engine, and put ours beside it."""
    ours = in_fresh_process(ENGINES[0])
    for name in ENGINES[1:]:
        theirs = in_fresh_process(name)
        beside = f"transformers, {name}" if name.endswith(("16", "32")) else name
        if name.startswith("OpenVINO"):
            beside += " " + version("openvino-genai")
            yield Figure(f"replies that depend on the batch, {beside}", theirs.depending, f"of {len(ours.replies)}")
        yield Figure("FLIP", ours.flip, UNIT, theirs.flip, ours.flip / theirs.flip, beside)
        differing = sum(one != other for one, other in zip(theirs.replies, ours.replies, strict=True))
        yield Figure(f"replies that differ from ours, {beside}", differing, f"of {len(ours.replies)}")
        if theirs.likelihood is None or theirs.means is None or ours.likelihood is None or ours.means is None:
            continue
        ratio = ours.likelihood / theirs.likelihood
        yield Figure("backward likelihood", ours.likelihood, UNIT, theirs.likelihood, ratio, beside)
        apart = max(abs(one - other) for one, other in zip(theirs.means, ours.means, strict=True))
        yield Figure(f"largest difference of a mean log-probability, {beside}", apart, "nats")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--take"]:
        take_speeds(sys.argv[2])
    else:
        report(measure, "FLIP and likelihood by engines in this process, for a second of one CPU.")
